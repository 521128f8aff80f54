//! Splits a line of HAProxy's configuration into words: quotes, escapes and comments.

use super::Trouble;

/// The words of a line; a comment ends it. In single quotes nothing is special, in double quotes the
/// backslash is, and environment variables, which nobody here can know.
pub(super) fn split(line: &str, number: usize) -> Result<Vec<String>, Trouble> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some('\''), letter) => word.get_or_insert_default().push(letter),
            (_, '\\') => {
                let next = letters.next();
                let next =
                    next.ok_or_else(|| Trouble::at(number, "the line ends in a backslash"))?;
                word.get_or_insert_default().push(next);
            }
            (Some(_), '$') => {
                let message = "environment variables are not known here";
                return Err(Trouble::at(number, message).hint("write the value instead"));
            }
            (None, '"' | '\'') => {
                word.get_or_insert_default();
                quote = Some(letter);
            }
            (None, '#') => break,
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    if let Some(open) = quote {
        return Err(Trouble::at(number, format!("a quote {open} is not closed")));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_escapes_and_comments() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("\t # all of it", &[]),
            ("  server\tcp1  10.0.0.1:6443 # the first", &["server", "cp1", "10.0.0.1:6443"]),
            (r#"a "b c" 'd "e'"#, &["a", "b c", r#"d "e"#]),
            (r"a\ b c\#d", &["a b", "c#d"]),
            (r#"x "" y"#, &["x", "", "y"]),
            (r#"pre"in"post"#, &["preinpost"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line, 1).unwrap(), *words, "{line}");
        }
        for (line, text) in [
            ("a \"b", "7: a quote \" is not closed"),
            ("a \\", "7: the line ends in a backslash"),
            ("a \"${X}\"", "7: environment variables are not known here"),
        ] {
            let error = split(line, 7).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
