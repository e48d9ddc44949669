//! Validation: the faults of a value, in the words of kube-openapi's validator.

use std::fmt::Write;

use serde_json::{Number, Value};

use super::{Kind, Rules, Structural};
use crate::FieldError;
use crate::schema::ListType;
use crate::validation::Faults;

impl Structural {
    /// Faults of a value that stands at `path`.
    pub fn faults(&self, value: &Value, path: &str) -> Faults {
        let mut checker = Checker { path: path.to_string(), faults: Faults::new() };
        checker.value(self, value);
        checker.faults
    }

    fn accepts(&self, value: &Value) -> bool {
        self.faults(value, "").is_empty()
    }
}

struct Checker {
    path: String,
    faults: Faults,
}

/// The type of a value, as messages name it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if is_whole(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
}

impl Checker {
    /// Goes on one step below.
    fn below(&mut self, step: impl FnOnce(&mut String), go: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        step(&mut self.path);
        go(self);
        self.path.truncate(length);
    }

    fn invalid(&mut self, value: &Value, why: &str) {
        let why = format!("{} in body {why}", self.path);
        self.faults.push(FieldError::invalid(&self.path, value, why));
    }

    fn value(&mut self, node: &Structural, value: &Value) {
        if self.faults.is_full() {
            return;
        }
        if value.is_null() && (node.nullable || node.kind.is_none() && !node.int_or_string) {
            return;
        }
        if !self.fits(node, value) {
            return;
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if let Some(child) = node.member(name) {
                        let step = |path: &mut String| {
                            if !path.is_empty() {
                                path.push('.');
                            }
                            path.push_str(name);
                        };
                        self.below(step, |checker| checker.value(child, member));
                    }
                }
            }
            Value::Array(list) => {
                for (at, item) in list.iter().enumerate() {
                    let Some(child) = node.items.as_deref() else { continue };
                    let step = |path: &mut String| {
                        let _ = write!(path, "[{at}]");
                    };
                    self.below(step, |checker| checker.value(child, item));
                }
                self.unique(node, list);
            }
            _ => {}
        }
        if let Some(rules) = &node.rules {
            self.rules(rules, value);
        }
    }

    fn fits(&mut self, node: &Structural, value: &Value) -> bool {
        let found = type_of(value);
        let wanted = match node.kind {
            None if node.int_or_string => {
                if matches!(found, "integer" | "string") {
                    return true;
                }
                "integer,string"
            }
            None => return true,
            Some(Kind::Number) if found == "integer" => return true,
            Some(kind) if kind.name() == found => return self.in_range(node, value),
            Some(kind) => kind.name(),
        };
        let why = format!("{} in body must be of type {wanted}: {found:?}", self.path);
        self.faults.push(FieldError::wrong_type(&self.path, found, why));
        false
    }

    /// `int32` has a range of its own.
    fn in_range(&mut self, node: &Structural, value: &Value) -> bool {
        let format = node.rules.as_deref().map_or("", |rules| &*rules.format);
        let Some(number) = value.as_i64().filter(|_| format == "int32") else { return true };
        if i32::try_from(number).is_ok() {
            return true;
        }
        let why = format!("{} in body must be of type int32: \"int64\"", self.path);
        self.faults.push(FieldError::wrong_type(&self.path, "int64", why));
        false
    }

    /// Lists that are sets or maps hold nothing twice.
    fn unique(&mut self, node: &Structural, list: &[Value]) {
        let mut seen = std::collections::HashSet::new();
        for (at, item) in list.iter().enumerate() {
            let key = match node.list_type {
                Some(ListType::Set) => item.clone(),
                Some(ListType::Map) => {
                    let keys = node.list_map_keys.iter();
                    keys.filter_map(|key| Some((key.clone(), item.get(key)?.clone()))).collect()
                }
                _ => return,
            };
            if !seen.insert(key.to_string()) {
                self.faults.push(FieldError::duplicate(format!("{}[{at}]", self.path), key));
            }
        }
    }

    fn rules(&mut self, rules: &Rules, value: &Value) {
        match value {
            Value::Object(members) => {
                for name in rules.required.iter().filter(|name| !members.contains_key(*name)) {
                    let at =
                        if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
                    self.faults.push(FieldError::required(at, ""));
                }
                self.count(rules.properties, members.len(), "properties");
            }
            Value::Array(list) => self.count(rules.items, list.len(), "items"),
            Value::String(text) => self.text(rules, value, text),
            Value::Number(number) => self.number(rules, value, number),
            _ => {}
        }
        if !rules.allowed.is_empty() && !rules.allowed.contains(value) {
            let words: Vec<String> = rules.allowed.iter().map(printed).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.faults.push(FieldError::not_supported(&self.path, value, &words));
        }
        self.combinations(rules, value);
    }

    fn count(&mut self, (least, most): super::Bounds, count: usize, what: &str) {
        let number = i64::try_from(count).unwrap_or(i64::MAX);
        if let Some(least) = least.filter(|least| number < *least) {
            self.invalid(&Value::from(number), &format!("should have at least {least} {what}"));
        }
        if let Some(most) = most.filter(|most| number > *most) {
            self.faults.push(FieldError::too_many(&self.path, count, most));
        }
    }

    fn text(&mut self, rules: &Rules, value: &Value, text: &str) {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(least) = rules.length.0.filter(|least| length < *least) {
            self.invalid(value, &format!("should be at least {least} chars long"));
        }
        if let Some(most) = rules.length.1.filter(|most| length > *most) {
            self.faults.push(FieldError::too_long(&self.path, usize::try_from(most).unwrap_or(0)));
        }
        if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
            self.invalid(value, &format!("should match '{}'", pattern.text));
        }
    }

    fn number(&mut self, rules: &Rules, value: &Value, number: &Number) {
        let of = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
        let given = of(number);
        if let Some((least, exclusive)) = &rules.minimum {
            let short = if *exclusive { given <= of(least) } else { given < of(least) };
            let or_equal = if *exclusive { "" } else { " or equal to" };
            if short {
                self.invalid(value, &format!("should be greater than{or_equal} {least}"));
            }
        }
        if let Some((most, exclusive)) = &rules.maximum {
            let over = if *exclusive { given >= of(most) } else { given > of(most) };
            let or_equal = if *exclusive { "" } else { " or equal to" };
            if over {
                self.invalid(value, &format!("should be less than{or_equal} {most}"));
            }
        }
        if let Some(factor) = &rules.multiple_of
            && of(factor) > 0.0
            && (given / of(factor)).fract() != 0.0
        {
            self.invalid(value, &format!("should be a multiple of {factor}"));
        }
    }

    fn combinations(&mut self, rules: &Rules, value: &Value) {
        for one in &rules.all_of {
            self.value(one, value);
        }
        let path = self.path.clone();
        let mut fault = |why: String| self.faults.push(FieldError::invalid(&path, "", why));
        if !rules.any_of.is_empty() && !rules.any_of.iter().any(|one| one.accepts(value)) {
            fault(format!("{path:?} must validate at least one schema (anyOf)"));
        }
        if !rules.one_of.is_empty() {
            let matching = rules.one_of.iter().filter(|one| one.accepts(value)).count();
            if matching != 1 {
                let found = match matching {
                    0 => "Found none valid".to_string(),
                    many => format!("Found {many} valid alternatives"),
                };
                fault(format!("{path:?} must validate one and only one schema (oneOf). {found}"));
            }
        }
        if rules.not.as_ref().is_some_and(|one| one.accepts(value)) {
            fault(format!("{path:?} must not validate the schema (not)"));
        }
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
