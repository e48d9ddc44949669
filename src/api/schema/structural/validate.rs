//! Validation: the faults of a value, in the words of kube-openapi's validator.
//!
//! The work is counted ([`super::limits`]). Where only yes or no is asked, as by `anyOf`, it ends with the
//! first fault and words none; a path becomes a text only for a fault that is kept.

use std::collections::HashSet;

use serde_json::{Number, Value};

use super::allowed::Allowed;
use super::limits::{MAX_STEPS, VISIT};
use super::node::{Bounds, Format, Kind, Rules, Structural};
use super::steps::Steps;
use crate::FieldError;
use crate::bounds::MAX_DETAIL;
use crate::schema::ListType;
use crate::validation::{Faults, Path};

impl Structural {
    /// Faults of a value that stands at `path`, which is empty for a whole object.
    pub fn faults(&self, value: &Value, path: &str) -> Faults {
        self.faults_since(value, None, path)
    }

    /// The same of a value that was another before. What has not changed is not judged: a schema may have
    /// become stricter, and objects must stay writable. Elements of a list are the same as before by their
    /// keys; without keys a list counts as a whole.
    pub(super) fn faults_since(&self, value: &Value, old: Option<&Value>, path: &str) -> Faults {
        let mut steps = Steps::new(MAX_STEPS);
        let mut checker = Checker::new(CheckGoal::Faults, &mut steps);
        checker.value(self, value, old, &Path::new(path));
        let mut faults = checker.faults;
        faults.extend(steps.fault());
        faults
    }

    /// The same with the steps that are left. Whoever lets them run out tells of it.
    pub(super) fn faults_within(&self, value: &Value, path: &Path<'_>, steps: &mut Steps) -> Faults {
        let mut checker = Checker::new(CheckGoal::Faults, steps);
        checker.value(self, value, None, path);
        checker.faults
    }
}

/// What the caller wants to know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CheckGoal {
    Faults,
    /// Whether there are any.
    Validity,
}

struct Checker<'s> {
    faults: Faults,
    asked: CheckGoal,
    failed: bool,
    steps: &'s mut Steps,
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

impl<'s> Checker<'s> {
    fn new(asked: CheckGoal, steps: &'s mut Steps) -> Self {
        Checker { faults: Faults::new(), asked, failed: false, steps }
    }

    fn fault(&mut self, fault: impl FnOnce() -> FieldError) {
        self.failed = true;
        if self.asked == CheckGoal::Faults && !self.faults.is_full() {
            self.faults.push(fault());
        }
    }

    /// Nothing more is to be found out.
    fn is_done(&self) -> bool {
        self.steps.is_spent()
            || match self.asked {
                CheckGoal::Faults => self.faults.is_full(),
                CheckGoal::Validity => self.failed,
            }
    }

    fn invalid(&mut self, path: &Path<'_>, value: &Value, why: impl FnOnce() -> String) {
        self.fault(|| {
            let at = String::from(path);
            let why = format!("{at} in body {}", why());
            FieldError::invalid(at, value, why)
        });
    }

    /// Whether a schema accepts a value.
    fn accepts(&mut self, node: &Structural, value: &Value, path: &Path<'_>) -> bool {
        let (asked, failed) = (self.asked, self.failed);
        (self.asked, self.failed) = (CheckGoal::Validity, false);
        self.value(node, value, None, path);
        let accepted = !self.failed;
        (self.asked, self.failed) = (asked, failed);
        accepted
    }

    fn value(&mut self, node: &Structural, value: &Value, old: Option<&Value>, path: &Path<'_>) {
        if self.is_done() || !self.steps.take(VISIT, path) || old == Some(value) {
            return;
        }
        if value.is_null() && (node.nullable || node.kind.is_none() && !node.int_or_string) {
            return;
        }
        if !self.fits(node, value, path) {
            return;
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if let Some(child) = node.member(name) {
                        self.value(child, member, old.and_then(|old| old.get(name)), &path.child(name));
                    }
                }
            }
            Value::Array(list) => {
                if let Some(child) = node.items.as_deref() {
                    let before = node.by_keys(old);
                    for (at, item) in list.iter().enumerate() {
                        let old = before.get(&node.keys_of(item)).copied();
                        self.value(child, item, old, &path.index(at));
                    }
                }
                self.unique(node, list, path);
            }
            _ => {}
        }
        if let Some(rules) = &node.rules {
            self.rules(rules, value, old, path);
        }
    }

    fn fits(&mut self, node: &Structural, value: &Value, path: &Path<'_>) -> bool {
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
            Some(kind) if kind.name() == found => return self.in_range(node, value, path),
            Some(kind) => kind.name(),
        };
        self.wrong_type(path, wanted, found);
        false
    }

    fn wrong_type(&mut self, path: &Path<'_>, wanted: &str, found: &str) {
        self.fault(|| {
            let at = String::from(path);
            let why = format!("{at} in body must be of type {wanted}: {found:?}");
            FieldError::wrong_type(at, found, why)
        });
    }

    /// `int32` has a range of its own.
    fn in_range(&mut self, node: &Structural, value: &Value, path: &Path<'_>) -> bool {
        let narrow = node.rules.as_deref().is_some_and(|rules| rules.format == Format::Int32);
        let Some(number) = value.as_i64().filter(|_| narrow) else { return true };
        if i32::try_from(number).is_ok() {
            return true;
        }
        self.wrong_type(path, "int32", "int64");
        false
    }

    /// Lists that are sets or maps hold nothing twice.
    fn unique(&mut self, node: &Structural, list: &[Value], path: &Path<'_>) {
        let mut seen = HashSet::new();
        for (at, item) in list.iter().enumerate() {
            if self.is_done() {
                return;
            }
            let key = match node.list_type {
                Some(ListType::Set) => item.to_string(),
                Some(ListType::Map) => {
                    let keys = node.list_map_keys.iter();
                    let found = keys.filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                    found.collect::<Value>().to_string()
                }
                _ => return,
            };
            let steps = VISIT + node.list_map_keys.len() as u64 + key.len() as u64 / 4;
            if !self.steps.take(steps, path) {
                return;
            }
            if let Some(key) = seen.replace(key) {
                // It was made from a value.
                let key: Value = serde_json::from_str(&key).unwrap_or(Value::Null);
                self.fault(|| FieldError::duplicate(path.index(at), key));
            }
        }
    }

    fn rules(&mut self, rules: &Rules, value: &Value, old: Option<&Value>, path: &Path<'_>) {
        match value {
            Value::Object(members) => {
                self.required(&rules.required, members, path);
                self.count(rules.properties, members.len(), "properties", path);
            }
            Value::Array(list) => self.count(rules.items, list.len(), "items", path),
            Value::String(text) => self.text(rules, value, text, path),
            Value::Number(number) => self.number(rules, value, number, path),
            _ => {}
        }
        if let Some(allowed) = &rules.allowed
            && self.steps.take(allowed.steps(value), path)
            && !allowed.contains(value)
        {
            self.fault(|| not_allowed(allowed, value, path));
        }
        self.combinations(rules, value, old, path);
    }

    fn required(&mut self, names: &[String], members: &serde_json::Map<String, Value>, path: &Path<'_>) {
        if !self.steps.take(names.len() as u64, path) {
            return;
        }
        for name in names.iter().filter(|name| !members.contains_key(*name)) {
            if self.is_done() {
                return;
            }
            self.fault(|| FieldError::required(path.child(name), ""));
        }
    }

    fn count(&mut self, (least, most): Bounds, count: usize, what: &str, path: &Path<'_>) {
        let number = i64::try_from(count).unwrap_or(i64::MAX);
        if let Some(least) = least.filter(|least| number < *least) {
            self.invalid(path, &Value::from(number), || format!("should have at least {least} {what}"));
        }
        if let Some(most) = most.filter(|most| number > *most) {
            self.fault(|| FieldError::too_many(path, count, most));
        }
    }

    fn text(&mut self, rules: &Rules, value: &Value, text: &str, path: &Path<'_>) {
        if rules.length != (None, None) && self.steps.take(text.len() as u64 / 16, path) {
            let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
            if let Some(least) = rules.length.0.filter(|least| length < *least) {
                self.invalid(path, value, || format!("should be at least {least} chars long"));
            }
            if let Some(most) = rules.length.1.filter(|most| length > *most) {
                self.fault(|| FieldError::too_long(path, usize::try_from(most).unwrap_or(0)));
            }
        }
        let Some(pattern) = rules.pattern.as_ref().filter(|_| !self.is_done()) else { return };
        let steps = (text.len() as u64 + 1).saturating_mul(pattern.steps());
        if self.steps.take(steps, path) && !pattern.matches(text) {
            self.invalid(path, value, || format!("should match '{}'", pattern.text));
        }
    }

    fn number(&mut self, rules: &Rules, value: &Value, number: &Number, path: &Path<'_>) {
        let of = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
        let given = of(number);
        if let Some((least, exclusive)) = &rules.minimum {
            let short = if *exclusive { given <= of(least) } else { given < of(least) };
            let or_equal = if *exclusive { "" } else { " or equal to" };
            if short {
                self.invalid(path, value, || format!("should be greater than{or_equal} {least}"));
            }
        }
        if let Some((most, exclusive)) = &rules.maximum {
            let over = if *exclusive { given >= of(most) } else { given > of(most) };
            let or_equal = if *exclusive { "" } else { " or equal to" };
            if over {
                self.invalid(path, value, || format!("should be less than{or_equal} {most}"));
            }
        }
        if let Some(factor) = &rules.multiple_of
            && of(factor) > 0.0
            && (given / of(factor)).fract() != 0.0
        {
            self.invalid(path, value, || format!("should be a multiple of {factor}"));
        }
    }

    fn combinations(&mut self, rules: &Rules, value: &Value, old: Option<&Value>, path: &Path<'_>) {
        for one in &rules.all_of {
            self.value(one, value, old, path);
        }
        if self.is_done() {
            return;
        }
        let fault = |checker: &mut Self, why: &str| {
            checker.fault(|| {
                let at = String::from(path);
                let why = format!("{at:?} must {why}");
                FieldError::invalid(at, "", why)
            });
        };
        if !rules.any_of.is_empty() && !rules.any_of.iter().any(|one| self.accepts(one, value, path)) {
            fault(self, "validate at least one schema (anyOf)");
        }
        if !rules.one_of.is_empty() {
            match rules.one_of.iter().filter(|one| self.accepts(one, value, path)).count() {
                1 => {}
                0 => fault(self, "validate one and only one schema (oneOf). Found none valid"),
                many => fault(
                    self,
                    &format!("validate one and only one schema (oneOf). Found {many} valid alternatives"),
                ),
            }
        }
        if rules.not.as_ref().is_some_and(|one| self.accepts(one, value, path)) {
            fault(self, "not validate the schema (not)");
        }
    }
}

fn not_allowed(allowed: &Allowed, value: &Value, path: &Path<'_>) -> FieldError {
    let mut size = 0;
    // What is longer is cut.
    let shown = allowed.values.iter().take_while(|value| {
        let before = size;
        size += crate::bounds::json_len(value, MAX_DETAIL);
        before <= MAX_DETAIL
    });
    let words: Vec<String> = shown.map(printed).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    FieldError::not_supported(path, value, &words)
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
