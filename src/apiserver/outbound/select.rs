//! The members of an answer that are asked for, as trees.
//!
//! Another server says how large its answers are and what is in them. Members that nobody asks for are read
//! over without being kept, as upstream's decoder does, and what is kept is counted as that of a client's
//! body is (`api::bounds`). Nothing else is held to a form here: that is for whoever asks.

use std::fmt;

use api::schema;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::OutboundError;

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    Whole,
    Members(&'a [(&'a str, Wanted<'a>)]),
}

/// What is wanted of a document. A value of which members are wanted and that has none becomes null.
pub(crate) fn select(json: &[u8], wanted: Wanted<'_>) -> Result<Value, OutboundError> {
    let Wanted::Members(wanted) = wanted else {
        return schema::decode_json(json).map(|(tree, _)| tree).map_err(OutboundError::Undecodable);
    };
    if json.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        serde_json::from_slice::<IgnoredAny>(json).map_err(OutboundError::NotJson)?;
        return Ok(Value::Null);
    }
    let mut decoder = serde_json::Deserializer::from_slice(json);
    let found = decoder.deserialize_map(Object(wanted)).map_err(OutboundError::NotJson)?;
    decoder.end().map_err(OutboundError::NotJson)?;
    let mut members = Map::new();
    for ((name, wanted), found) in wanted.iter().zip(found) {
        if let Some(found) = found {
            members.insert(name.to_string(), select(found.get().as_bytes(), *wanted)?);
        }
    }
    Ok(Value::Object(members))
}

/// Of members that occur twice the last one counts.
struct Object<'a>(&'a [(&'a str, Wanted<'a>)]);

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut found = vec![None; self.0.len()];
        while let Some(at) = access.next_key_seed(Name(self.0))? {
            match at {
                Some(at) => found[at] = Some(access.next_value()?),
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Which of the members a key names.
struct Name<'a>(&'a [(&'a str, Wanted<'a>)]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Self::Value, D::Error> {
        decoder.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|(name, _)| *name == key))
    }
}
