//! A label selector made ready for matching many sets of labels.
//!
//! What selectors cost must not depend on how long they are: everybody who may write an object with a
//! selector writes it for the controllers that match every pod against it. Requirements are merged by key
//! here, so a match looks at the shorter of the two, the labels or the keys, and a value costs a binary
//! search.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{LabelSelector, Operator, Requirement, meta};

/// Immutable; made once per version of the object that has the selector ([`crate::Object::selector`]).
#[derive(Debug, Default)]
pub struct LabelMatcher {
    nothing: bool,
    keys: HashMap<String, Condition>,
    /// How many of the keys must be there.
    required: usize,
}

/// A `LabelSelector` and nothing else: what has other members is not an empty one, which selects everything.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    match_labels: Option<BTreeMap<String, String>>,
    match_expressions: Option<Vec<meta::LabelSelectorRequirement>>,
}

/// All that is required of the label of one key.
#[derive(Debug, Default)]
struct Condition {
    present: bool,
    absent: bool,
    /// Sorted; none if any value will do.
    allowed: Option<Vec<String>>,
    /// Sorted.
    denied: Vec<String>,
    /// Of `>` and `<`, which are few: objects have none.
    compared: Vec<Requirement>,
}

impl LabelMatcher {
    pub fn new(selector: LabelSelector) -> Self {
        let mut keys: HashMap<String, Condition> = HashMap::new();
        for mut one in selector.requirements {
            let condition = keys.entry(std::mem::take(&mut one.key)).or_default();
            condition.add(one);
        }
        for condition in keys.values_mut() {
            condition.denied.sort_unstable();
            condition.denied.dedup();
        }
        let required = keys.values().filter(|condition| condition.present).count();
        LabelMatcher { nothing: selector.nothing, keys, required }
    }

    /// Of `spec.selector` as JSON: a plain map of labels, as services have it, or a `LabelSelector`. Anything
    /// else selects nothing.
    pub(crate) fn of_json(selector: &RawValue) -> Self {
        let text = selector.get();
        if let Ok(labels) = serde_json::from_str::<BTreeMap<String, String>>(text) {
            return Self::new(LabelSelector::from_map(&labels));
        }
        let Ok(Form { match_labels, match_expressions }) = serde_json::from_str(text) else {
            return Self::new(LabelSelector::nothing());
        };
        Self::new(LabelSelector::from_meta(Some(&meta::LabelSelector { match_labels, match_expressions })))
    }

    pub fn is_everything(&self) -> bool {
        self.keys.is_empty() && !self.nothing
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        if self.nothing {
            return false;
        }
        if self.keys.len() <= labels.len() {
            return self.keys.iter().all(|(key, condition)| condition.admits(labels.get(key)));
        }
        // Keys without a label matter only if the label must be there: those are counted.
        let mut found = 0;
        for (key, value) in labels {
            let Some(condition) = self.keys.get(key) else { continue };
            if !condition.admits(Some(value)) {
                return false;
            }
            found += usize::from(condition.present);
        }
        found == self.required
    }
}

impl From<LabelSelector> for LabelMatcher {
    fn from(selector: LabelSelector) -> Self {
        Self::new(selector)
    }
}

impl Condition {
    /// `one` has given its key away.
    fn add(&mut self, one: Requirement) {
        match one.operator {
            Operator::In | Operator::Equals => {
                self.present = true;
                self.allowed = Some(match self.allowed.take() {
                    None => one.values,
                    Some(mut both) => {
                        both.retain(|value| one.values.binary_search(value).is_ok());
                        both
                    }
                });
            }
            Operator::NotIn | Operator::NotEquals => self.denied.extend(one.values),
            Operator::Exists => self.present = true,
            Operator::DoesNotExist => self.absent = true,
            Operator::GreaterThan | Operator::LessThan => {
                self.present = true;
                self.compared.push(one);
            }
        }
    }

    fn admits(&self, value: Option<&String>) -> bool {
        let Some(value) = value else { return !self.present };
        !self.absent
            && self.allowed.as_ref().is_none_or(|allowed| allowed.binary_search(value).is_ok())
            && self.denied.binary_search(value).is_err()
            && self.compared.iter().all(|one| one.admits(Some(value)))
    }
}
