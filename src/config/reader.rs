//! Reads typed values from a tree.

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::faults::{quoted, suggestion};
use super::read_error::ReadError;
use super::tree::{Key, Node, Value};

impl Node {
    fn wrong(&self, expected: &str) -> ReadError {
        let hint = match (expected, &self.value) {
            ("text", Value::Bool(value)) => Some(format!("put it in quotes: \"{value}\"")),
            ("text", Value::Int(value)) => Some(format!("put it in quotes: \"{value}\"")),
            ("text", Value::Float(value)) => Some(format!("put it in quotes: \"{value}\"")),
            ("text", Value::Sequence(_) | Value::Mapping(_)) => {
                Some("put a text with brackets, braces or `: ` in quotes".to_owned())
            }
            ("a list", Value::String(_) | Value::Mapping(_)) => {
                Some("begin each item with `- `, or put [ ] around the items".to_owned())
            }
            ("true or false", Value::String(text)) => match text.to_lowercase().as_str() {
                "yes" | "on" | "y" | "true" => Some("write `true`"),
                "no" | "off" | "n" | "false" => Some("write `false`"),
                _ => None,
            }
            .map(str::to_owned),
            _ => None,
        };
        ReadError::new(format!("expected {expected}, found {}", self.describe()), hint)
            .at(self.place)
    }

    fn integer<'de, V: Visitor<'de>>(&'de self, visitor: V) -> Result<V::Value, ReadError> {
        let Value::Int(value) = self.value else {
            return Err(self.wrong("a whole number"));
        };
        let visited = match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => visitor.visit_i64(value),
            (_, Ok(value)) => visitor.visit_u64(value),
            _ => visitor.visit_i128(value),
        };
        visited.map_err(|error: ReadError| error.at(self.place))
    }
}

macro_rules! only {
    ($($method:ident => $expected:literal, $pattern:pat => |$visitor:ident| $visit:expr;)+) => {$(
        fn $method<V: Visitor<'de>>(self, $visitor: V) -> Result<V::Value, ReadError> {
            let visited: Result<V::Value, ReadError> = match &self.value {
                $pattern => $visit,
                _ => Err(self.wrong($expected)),
            };
            visited.map_err(|error| error.at(self.place))
        }
    )+};
}

macro_rules! same {
    ($to:ident: $($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.$to(visitor)
        }
    )+};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = ReadError;

    only! {
        deserialize_bool => "true or false", Value::Bool(value) => |visitor| visitor.visit_bool(*value);
        deserialize_str => "text", Value::String(value) => |visitor| visitor.visit_borrowed_str(value);
        deserialize_seq => "a list", Value::Sequence(items) => |visitor| visitor.visit_seq(Items::new(items));
        deserialize_map => "a mapping", Value::Mapping(entries) => |visitor| visitor.visit_map(Entries::new(entries));
        deserialize_unit => "nothing", Value::Null => |visitor| visitor.visit_unit();
    }

    same! { integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
    deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 }
    same! { deserialize_str: deserialize_string deserialize_char deserialize_bytes
    deserialize_byte_buf deserialize_identifier }
    same! { deserialize_f64: deserialize_f32 }
    same! { deserialize_any: deserialize_ignored_any }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Null => self.deserialize_unit(visitor),
            Value::Bool(_) => self.deserialize_bool(visitor),
            Value::Int(_) => self.integer(visitor),
            Value::Float(_) => self.deserialize_f64(visitor),
            Value::String(_) => self.deserialize_str(visitor),
            Value::Sequence(_) => self.deserialize_seq(visitor),
            Value::Mapping(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Float(value) => visitor.visit_f64(value),
            Value::Int(_) => self.integer(visitor),
            _ => Err(self.wrong("a number")),
        }
        .map_err(|error: ReadError| error.at(self.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if let (Value::String(text), [first, ..]) = (&self.value, keys) {
            let message = format!("expected a mapping, found {}", self.describe());
            let hint = format!("write {}", quoted(&format!("{first}: {text}")));
            return Err(ReadError::new(message, Some(hint)).at(self.place));
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.value {
            Value::String(text) => {
                visitor.visit_enum(StrDeserializer::<ReadError>::new(text.as_str()))
            }
            Value::Mapping(entries) => {
                visitor.visit_enum(MapAccessDeserializer::new(Entries::new(entries)))
            }
            _ => {
                let message = format!("expected a name, found {}", self.describe());
                Err(ReadError::new(message, Some(suggestion("", variants))))
            }
        }
        .map_err(|error| error.at(self.place))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self).map_err(|error| error.at(self.place))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }
}

/// The items of a list, one after another.
struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> Items<'de> {
    fn new(items: &'de [Node]) -> Self {
        Self(items.iter().enumerate())
    }
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some((index, node)) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(node).map(Some).map_err(|error| error.at(node.place).within(index))
    }
}

/// The entries of a mapping, one after another.
struct Entries<'de> {
    rest: std::iter::Enumerate<std::slice::Iter<'de, (Key, Node)>>,
    value: Option<(usize, &'de Node)>,
}

impl<'de> Entries<'de> {
    fn new(entries: &'de [(Key, Node)]) -> Self {
        Self { rest: entries.iter().enumerate(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let Some((index, (key, node))) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some((index, node));
        seed.deserialize(StrDeserializer::<ReadError>::new(&key.text))
            .map(Some)
            .map_err(|error| error.at(key.place).within(index))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some((index, node)) = self.value.take() else {
            return Err(ReadError::new("a value was read before its key", None));
        };
        seed.deserialize(node).map_err(|error| error.at(node.place).within(index))
    }
}
