//! Words for a shell, so that it takes each as it is.

/// A word in single quotes: what every shell takes as one word, whatever is in it. An exclamation
/// mark stands outside of them, for csh.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''").replace('!', r"'\!'"))
}

/// Words, each quoted, with spaces between them.
pub(super) fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(line(["a b", "", "it's", "$HOME!"]), r"'a b' '' 'it'\''s' '$HOME'\!''");
    }
}
