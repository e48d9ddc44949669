//! Reads a few fields out of an object's bytes without building the rest: what field selectors and indexes
//! need.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The part of a JSON object that lies on the given paths (`spec.nodeName`); empty if the bytes are no JSON
/// object.
pub(crate) fn pick(bytes: &[u8], paths: &[&str]) -> Value {
    let wanted: Vec<&str> = paths.to_vec();
    let mut decoder = serde_json::Deserializer::from_slice(bytes);
    Picked { paths: &wanted }.deserialize(&mut decoder).unwrap_or_default()
}

struct Picked<'a> {
    paths: &'a [&'a str],
}

impl<'de> DeserializeSeed<'de> for Picked<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, decoder: D) -> Result<Value, D::Error> {
        decoder.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Picked<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut picked = Map::new();
        let mut below: Vec<&str> = Vec::new();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let mut whole = false;
            below.clear();
            for path in self.paths {
                match path.split_once('.') {
                    Some((first, rest)) if first == key => below.push(rest),
                    None if *path == key => whole = true,
                    _ => {}
                }
            }
            if whole {
                picked.insert(key.into_owned(), map.next_value()?);
            } else if below.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                let value = map.next_value_seed(Picked { paths: &below })?;
                picked.insert(key.into_owned(), value);
            }
        }
        Ok(Value::Object(picked))
    }

    // A path leads on, but here is no object: there is nothing on the path.
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, _value: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, _value: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
}
