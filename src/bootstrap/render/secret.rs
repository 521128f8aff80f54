//! Text that goes into a file and into nothing else.

use std::fmt;

use serde::Serialize;

/// A token, key or password: serialized as it is, and never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// This text, from now on secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_and_never_shown() {
        let token = SecretText::new("abcdef.0123456789abcdef");
        assert_eq!(format!("{token:?}"), "SecretText(23 bytes)");
        assert_eq!(
            serde_json::to_value(&token).ok(),
            Some(serde_json::Value::from("abcdef.0123456789abcdef"))
        );
    }
}
