//! Whether a configuration fits its schema, with structured-merge-diff's words.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::go;
use crate::bounds::{MAX_FAULTS, MAX_PATH};
use crate::managed;
use crate::schema::{Form, ListType, Member, Place};

/// The text that upstream makes of all faults; none if there are none.
pub(super) fn faults(root: Place<'_>, tree: &Value) -> Option<String> {
    let mut walk = Walk { faults: Vec::new() };
    let at = At { parent: None, step: PathElement::Root };
    match tree {
        Value::Object(map) => walk.members(root, map, (true, root.is_open()), &at),
        Value::Null => {}
        other => walk.fault(&at, || format!("expected map, got &{{{}}}", go::plain(other))),
    }
    match &*walk.faults {
        [] => None,
        [one] => Some(one.clone()),
        all => Some(format!("errors:\n  {}", all.join("\n  "))),
    }
}

#[derive(Clone, Copy)]
enum PathElement<'a> {
    Root,
    Field(&'a str),
    /// In the form of `FieldsV1`.
    Element(&'a str),
    Index(usize),
}

/// Where the walk is: a list on the stack, turned into text only when there is something to report.
struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: PathElement<'a>,
}

impl At<'_> {
    fn below<'b>(&'b self, step: PathElement<'b>) -> At<'b> {
        At { parent: Some(self), step }
    }

    fn path(&self) -> String {
        let mut path = self.parent.map(At::path).unwrap_or_default();
        if path.len() < MAX_PATH {
            match self.step {
                PathElement::Root => {}
                PathElement::Field(name) => path.push_str(&format!(".{name}")),
                PathElement::Element(key) => path.push_str(&go::element(key)),
                PathElement::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        cut(path)
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_PATH {
        let end = (0..=MAX_PATH).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

struct Walk {
    faults: Vec<String>,
}

impl Walk {
    fn fault(&mut self, at: &At<'_>, message: impl FnOnce() -> String) {
        if self.faults.len() >= MAX_FAULTS {
            return;
        }
        let (path, message) = (at.path(), cut(message()));
        self.faults.push(if path.is_empty() { message } else { format!("{path}: {message}") });
    }

    fn members(
        &mut self,
        place: Place<'_>,
        map: &Map<String, Value>,
        (is_root, is_open): (bool, bool),
        at: &At<'_>,
    ) {
        for (name, value) in map {
            let member = if is_root { place.root_member(name) } else { place.member(name) };
            let here = at.below(PathElement::Field(name));
            if !member.is_declared && !is_open {
                // Upstream looks no further in this map.
                return self.fault(&here, || "field not declared in schema".to_string());
            }
            self.value(&member, value, is_open, &here);
        }
    }

    fn value(&mut self, member: &Member<'_>, value: &Value, is_open: bool, at: &At<'_>) {
        let wrong = |what: &str| format!("expected {what}, got &{{{}}}", go::plain(value));
        let is_scalar = !value.is_object() && !value.is_array();
        match (member.form, value) {
            (_, Value::Null) => {}
            (Form::Map | Form::Any, Value::Object(map)) => {
                let is_open = is_open || member.place.is_open();
                self.members(member.place, map, (false, is_open), at);
            }
            (Form::List | Form::Any, Value::Array(list)) => self.elements(member, list, is_open, at),
            (Form::Map, _) => self.fault(at, || wrong("map")),
            (Form::List, _) => self.fault(at, || wrong("list")),
            (Form::Number, Value::Number(_)) | (Form::Text, Value::String(_)) => {}
            (Form::Bool, Value::Bool(_)) | (Form::Any, _) => {}
            (Form::Number, _) => {
                self.fault(at, || format!("expected numeric (int or float), got {}", go::type_name(value)))
            }
            (Form::Text, _) => self.fault(at, || {
                format!("expected string, got &value.valueUnstructured{{Value:{}}}", go::syntax(value))
            }),
            (Form::Bool, _) => self.fault(at, || wrong("boolean")),
            (Form::Scalar, _) if is_scalar => {}
            (Form::Scalar, _) => self.fault(at, || wrong("any scalar")),
        }
    }

    fn elements(&mut self, list: &Member<'_>, items: &[Value], is_open: bool, at: &At<'_>) {
        let is_keyed = matches!(list.list_type, Some(ListType::Set | ListType::Map));
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            if !is_keyed {
                self.value(&list.element(), item, is_open, &at.below(PathElement::Index(index)));
                continue;
            }
            let Some(key) = managed::element_of(list, item) else {
                let why = keyless(list, item);
                return self.fault(at, || format!("element {index}: {why}"));
            };
            if seen.contains(&key) {
                self.fault(at, || format!("duplicate entries for key {}", go::element(&key)));
            }
            self.value(&list.element(), item, is_open, &at.below(PathElement::Element(&key)));
            seen.insert(key);
        }
    }
}

/// Why an item has no key.
fn keyless(list: &Member<'_>, item: &Value) -> String {
    let is_set = list.list_type == Some(ListType::Set);
    let why = match item {
        Value::Object(_) if is_set => "associative list without keys has an element that's a map type",
        Value::Array(_) if is_set => "not supported: associative list with lists as elements",
        _ if is_set => "associative list without keys has an element that's an explicit null",
        Value::Null => "associative list with keys may not have a null element",
        Value::Object(_) => {
            let keys: Vec<String> = list.map_keys.iter().map(|key| format!("{key:?}")).collect();
            return format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                keys.join(" ")
            );
        }
        _ => "associative list with keys may not have non-map elements",
    };
    why.to_string()
}
