//! Reads nginx's format as directives and blocks, with their lines.

use crate::dropin::Trouble;

/// Deeper nesting than any module of nginx has.
const MAX_DEPTH: usize = 16;

/// A directive; a block when it ends in braces.
#[derive(Debug)]
pub(super) struct Directive {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) block: Vec<Directive>,
}

impl Directive {
    /// An argument, or nothing.
    pub(super) fn argument(&self, index: usize) -> &str {
        self.arguments.get(index).map_or("", String::as_str)
    }

    /// The last directive of this name in the block.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.block.iter().rev().find(|directive| directive.name == name)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
}

/// Reads a file into its top-level directives.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, Trouble> {
    // The blocks that are open, outermost first; the last one takes what comes next.
    let mut open: Vec<Directive> = Vec::new();
    let mut top = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut line_of_words = 1;
    for (line, token) in tokens(text)? {
        let directive = |words: &mut Vec<String>| {
            let mut words = std::mem::take(words).into_iter();
            let name = words.next().unwrap_or_default();
            Directive { line: line_of_words, name, arguments: words.collect(), block: Vec::new() }
        };
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    line_of_words = line;
                }
                words.push(word);
            }
            Token::Semicolon | Token::Open if words.is_empty() => {
                return Err(Trouble::at(line, "a directive has no name"));
            }
            Token::Semicolon => {
                let directive = directive(&mut words);
                open.last_mut().map_or(&mut top, |block| &mut block.block).push(directive);
            }
            Token::Open => {
                if open.len() == MAX_DEPTH {
                    return Err(Trouble::at(line, format!("more than {MAX_DEPTH} nested blocks")));
                }
                open.push(directive(&mut words));
            }
            Token::Close => {
                if !words.is_empty() {
                    return Err(Trouble::at(line_of_words, format!("no `;` after `{}`", words[0])));
                }
                let Some(block) = open.pop() else {
                    return Err(Trouble::at(line, "a `}` closes nothing"));
                };
                open.last_mut().map_or(&mut top, |block| &mut block.block).push(block);
            }
        }
    }
    if let Some(word) = words.first() {
        return Err(Trouble::at(line_of_words, format!("no `;` after `{word}`")));
    }
    match open.pop() {
        Some(block) => Err(Trouble::at(block.line, format!("`{} {{` is not closed", block.name))),
        None => Ok(top),
    }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Trouble> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\n' => line += 1,
            letter if letter.is_whitespace() => {}
            '#' => while letters.next_if(|letter| *letter != '\n').is_some() {},
            ';' => tokens.push((line, Token::Semicolon)),
            '{' => tokens.push((line, Token::Open)),
            '}' => tokens.push((line, Token::Close)),
            quote @ ('"' | '\'') => {
                let start = line;
                let mut word = String::new();
                loop {
                    match letters.next() {
                        None => {
                            return Err(Trouble::at(
                                start,
                                format!("a quote {quote} is not closed"),
                            ));
                        }
                        Some(letter) if letter == quote => break,
                        Some('\\') => word.extend(letters.next()),
                        Some(letter) => {
                            line += usize::from(letter == '\n');
                            word.push(letter);
                        }
                    }
                }
                tokens.push((start, Token::Word(word)));
            }
            letter => {
                let mut word = String::from(letter);
                let more =
                    |letter: &char| !letter.is_whitespace() && !matches!(letter, ';' | '{' | '}');
                loop {
                    // A variable: `${name}`.
                    if word.ends_with('$') && letters.peek() == Some(&'{') {
                        while let Some(letter) = letters.next_if(|letter| *letter != '\n') {
                            word.push(letter);
                            if letter == '}' {
                                break;
                            }
                        }
                    }
                    let Some(letter) = letters.next_if(more) else { break };
                    word.push(letter);
                }
                tokens.push((line, Token::Word(word)));
            }
        }
    }
    Ok(tokens)
}
