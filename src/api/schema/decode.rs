//! Bodies to trees, with the paths of keys that occur twice.
//!
//! serde_json alone would let the last one win silently; strict field validation has to name them. What the
//! tree takes is counted while it grows ([`crate::bounds`]), which also ends what YAML's aliases multiply.

use std::cell::RefCell;
use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::ApiError;
use crate::bounds::{Budget, ELEMENT, MAX_DEPTH, MAX_FAULTS, MAX_PATH, MAX_YAML_DEPTH, Spent, Text};

#[cfg(test)]
mod tests;

/// Where the decoder is: a list on the stack, turned into text only when there is something to report.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: PathElement<'a>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum PathElement<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl Place<'_> {
    /// Stops where the text is full.
    fn write(&self, out: &mut Text) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.write(out)?;
        match self.step {
            PathElement::Root => Ok(()),
            PathElement::Key(key) if matches!(parent.step, PathElement::Root) => out.write_str(key),
            PathElement::Key(key) => {
                out.write_char('.')?;
                out.write_str(key)
            }
            PathElement::Index(index) => write!(out, "[{index}]"),
        }
    }
}

/// What is gathered and counted on the way.
struct Notes {
    /// Paths of keys that occur twice: each once, and the first [`MAX_FAULTS`].
    duplicates: Vec<String>,
    budget: Budget,
    spent: Option<Spent>,
}

impl Notes {
    fn for_body(bytes: usize) -> RefCell<Notes> {
        let budget = Budget::for_body(bytes);
        RefCell::new(Notes { duplicates: Vec::new(), budget, spent: None })
    }

    fn duplicate(&mut self, place: &Place<'_>) {
        if self.duplicates.len() >= MAX_FAULTS {
            return;
        }
        let mut path = Text::new(MAX_PATH);
        let _ = place.write(&mut path);
        let path = path.finish();
        if !self.duplicates.contains(&path) {
            self.duplicates.push(path);
        }
    }
}

struct Tree<'a> {
    place: Place<'a>,
    /// A whole float is an integer, as after YAML went through JSON upstream; JSON keeps `1.0` apart from
    /// `1`.
    whole_floats: bool,
    notes: &'a RefCell<Notes>,
}

impl Tree<'_> {
    fn child<'b>(&'b self, step: PathElement<'b>) -> Tree<'b> {
        let place = Place { parent: Some(&self.place), step, depth: self.place.depth + 1 };
        Tree { place, whole_floats: self.whole_floats, notes: self.notes }
    }

    fn check_depth<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.place.depth > MAX_DEPTH { Err(E::custom("exceeded max depth")) } else { Ok(()) }
    }

    fn take<E: serde::de::Error>(
        &self,
        take: impl FnOnce(&mut Budget) -> Result<(), Spent>,
    ) -> Result<(), E> {
        let mut notes = self.notes.borrow_mut();
        take(&mut notes.budget).map_err(|spent| {
            notes.spent = Some(spent);
            E::custom(spent)
        })
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Value, D::Error> {
        decoder.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // Within these bounds every whole float is exactly one integer.
        if self.whole_floats && value.fract() == 0.0 && value.abs() < 9e15 {
            return Ok(Value::from(value as i64));
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number is not finite"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.take(|budget| budget.text(value))?;
        Ok(Value::String(value.to_string()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.take(|budget| budget.text(&value))?;
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, decoder: D) -> Result<Value, D::Error> {
        decoder.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut list = Vec::new();
        while let Some(value) = access.next_element_seed(self.child(PathElement::Index(list.len())))? {
            self.take(|budget| budget.take(ELEMENT))?;
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let child = self.child(PathElement::Key(&key));
            if map.contains_key(&key) {
                self.notes.borrow_mut().duplicate(&child.place);
            } else {
                self.take(|budget| budget.member(map.len(), &key))?;
            }
            let value = access.next_value_seed(child)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

fn tree<'de, D: Deserializer<'de>>(
    decoder: D,
    whole_floats: bool,
    depth: usize,
    notes: &RefCell<Notes>,
) -> Result<Value, D::Error> {
    let place = Place { parent: None, step: PathElement::Root, depth };
    Tree { place, whole_floats, notes }.deserialize(decoder)
}

/// The tree with the duplicates, or the decoder's error as `refuse` words it unless the budget was spent.
fn finished<E>(
    tree: Result<Value, E>,
    notes: RefCell<Notes>,
    refuse: impl FnOnce(E) -> ApiError,
) -> Result<(Value, Vec<String>), ApiError> {
    let notes = notes.into_inner();
    match (tree, notes.spent) {
        (Ok(tree), _) => Ok((tree, notes.duplicates)),
        (Err(_), Some(spent)) => Err(spent.into()),
        (Err(error), None) => Err(refuse(error)),
    }
}

/// Parses a JSON body. Of keys that occur twice the last wins; their paths are returned for
/// [`check_kind`](super::check_kind).
pub fn decode_json(bytes: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    let notes = Notes::for_body(bytes.len());
    finished(json(bytes, 0, &notes), notes, |error| {
        let why = go_words(bytes, &error);
        ApiError::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
    })
}

fn json(bytes: &[u8], depth: usize, notes: &RefCell<Notes>) -> Result<Value, serde_json::Error> {
    let mut decoder = serde_json::Deserializer::from_slice(bytes);
    let tree = tree(&mut decoder, false, depth, notes)?;
    decoder.end().map(|()| tree)
}

/// Parses JSON that stands inside something else: at its depth, from its budget.
pub(crate) fn decode_inner(
    bytes: &[u8],
    depth: usize,
    budget: &mut Budget,
) -> Result<Value, serde_json::Error> {
    let notes = RefCell::new(Notes { duplicates: Vec::new(), budget: *budget, spent: None });
    let tree = json(bytes, depth, &notes);
    *budget = notes.into_inner().budget;
    tree
}

/// A syntax error as Go's decoder words it, with the character that it met.
fn go_words(bytes: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    let says = text.split(" at line ").next().unwrap_or_default();
    if error.is_eof() {
        return "unexpected end of JSON input".to_string();
    }
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let met = line.get(error.column().saturating_sub(1)).copied().unwrap_or(b'\n');
    let met = match met {
        b'\'' => r"'\''".to_string(),
        b'"' => "'\"'".to_string(),
        met => format!("{:?}", char::from(met)),
    };
    let place = match says {
        "expected value" | "expected ident" => "looking for beginning of value",
        "key must be a string" => "looking for beginning of object key string",
        "trailing comma" if met == "'}'" => "looking for beginning of object key string",
        "trailing comma" => "looking for beginning of value",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "trailing characters" => "after top-level value",
        "invalid escape" => "in string escape code",
        "invalid number" => "in numeric literal",
        _ if says.starts_with("control character") => "in string literal",
        _ => return says.to_string(),
    };
    format!("invalid character {met} {place}")
}

/// Parses a body that is applied, in YAML or JSON. Keys that occur twice are told as upstream tells them of
/// YAML.
pub fn decode_applied(bytes: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let json = if is_json { decode_json(bytes).ok() } else { None };
    let (tree, duplicates) = match json {
        Some(decoded) => decoded,
        None => decode_yaml(bytes).map_err(|error| match error.code() {
            400 => ApiError::bad_request(format!("error decoding YAML: {}", error.message())),
            _ => error,
        })?,
    };
    if tree.is_object() || tree.is_null() {
        let told = if duplicates.is_empty() { Vec::new() } else { first_duplicate(bytes, duplicates) };
        return Ok((tree, told));
    }
    let found = match tree {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        _ => "number",
    };
    Err(ApiError::bad_request(format!(
        "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
    )))
}

/// The first key that occurs twice with its line; if it is not found again, the paths that are known.
fn first_duplicate(bytes: &[u8], paths: Vec<String>) -> Vec<String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_YAML_DEPTH },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    let text = String::from_utf8_lossy(bytes);
    let found = serde_saphyr::from_str_with_options::<serde::de::IgnoredAny>(&text, options);
    match found {
        Err(serde_saphyr::Error::DuplicateMappingKey { key: Some(key), location }) => {
            vec![format!("line {}: key {key:?} already set in map", location.line())]
        }
        _ => paths.iter().map(|path| format!("key {path:?} already set in map")).collect(),
    }
}

/// Parses a YAML body (one document), as [`decode_json`].
pub fn decode_yaml(bytes: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    let refuse = |why: String| ApiError::bad_request(format!("error converting YAML to JSON: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|error| refuse(error.to_string()))?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_YAML_DEPTH },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
    };
    let notes = Notes::for_body(bytes.len());
    let tree = serde_saphyr::with_deserializer_from_str_with_options(text, options, |decoder| {
        tree(decoder, true, 0, &notes)
    });
    finished(tree, notes, |error| refuse(error.to_string()))
}
