//! Texts that may be written as a number or as `true`: values of flags and labels.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A text, a whole number or a truth, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) String);

/// Words by their names.
pub(super) type Words = BTreeMap<String, Word>;

/// The texts of words.
pub(super) fn texts(words: Option<Words>) -> BTreeMap<String, String> {
    words.unwrap_or_default().into_iter().map(|(name, Word(text))| (name, text)).collect()
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordVisitor)
    }
}

impl JsonSchema for Word {
    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer", "boolean"] })
    }
}

struct WordVisitor;

impl<'de> de::Visitor<'de> for WordVisitor {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
        Ok(Word(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Word, E> {
        Ok(Word(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Word, E> {
        Ok(Word(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Word, E> {
        Ok(Word(value.to_string()))
    }

    /// `1.10` is read as 1.1: the text is lost, so it has to be in quotes.
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Word, E> {
        Err(E::custom(format!(
            "expected a text, found the number `{value}`\nput it in quotes: \"{value}\""
        )))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<Word, A::Error> {
        Err(de::Error::custom("expected a text, found a list\nwrite its items in one text: a,b"))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<Word, A::Error> {
        Err(de::Error::custom("expected a text, found a mapping\nwrite it in one text: a=b,c=d"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Word, E> {
        Err(E::custom("expected a text, found nothing\nwrite \"\" for an empty one"))
    }
}
