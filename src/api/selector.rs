//! Label and field selectors: parsing, matching, printing.
//!
//! Grammar and messages follow `k8s.io/apimachinery/pkg/labels` and `pkg/fields`.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

pub use matcher::LabelMatcher;

mod matcher;
mod parse;
#[cfg(test)]
mod tests;

/// A conjunction of requirements on labels; empty matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
    /// Set for the selector that matches nothing (a null `LabelSelector` in an object).
    pub nothing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted, without repeats.
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    /// `key=value`.
    Equals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// A conjunction of `path=value` and `path!=value` terms on fields; empty matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub path: String,
    pub equals: bool,
    pub value: String,
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn nothing() -> Self {
        LabelSelector { requirements: Vec::new(), nothing: true }
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.nothing && self.requirements.iter().all(|one| one.matches(labels))
    }

    /// `a=b,c!=d` of a plain map, as services and replication controllers have it.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let equals = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        LabelSelector { requirements: labels.iter().map(equals).collect(), nothing: false }
    }

    /// From an object's `LabelSelector`: absent selects nothing, empty selects everything. An operator the
    /// API does not know selects nothing (validation keeps such selectors out).
    pub fn from_meta(selector: Option<&meta::LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self::nothing() };
        let mut result = selector.match_labels.as_ref().map(Self::from_map).unwrap_or_default();
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => return Self::nothing(),
            };
            let mut values = expression.values.clone().unwrap_or_default();
            values.sort();
            values.dedup();
            result.requirements.push(Requirement { key: expression.key.clone(), operator, values });
        }
        result
    }
}

impl Requirement {
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.admits(labels.get(&self.key))
    }

    /// The same, given the value of the label.
    fn admits(&self, value: Option<&String>) -> bool {
        let listed = || value.is_some_and(|value| self.values.binary_search(value).is_ok());
        let compared = |greater: bool| {
            let own = value.and_then(|value| value.parse::<i64>().ok());
            let bound = self.values.first().and_then(|value| value.parse::<i64>().ok());
            matches!((own, bound), (Some(own), Some(bound)) if if greater { own > bound } else { own < bound })
        };
        match self.operator {
            Operator::In | Operator::Equals => listed(),
            Operator::NotIn | Operator::NotEquals => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compared(true),
            Operator::LessThan => compared(false),
        }
    }
}

impl FieldSelector {
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// `value_of` gives the value of a path; an absent field counts as the empty string, as upstream.
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> &'a str) -> bool {
        self.terms.iter().all(|term| (value_of(&term.path) == term.value) == term.equals)
    }

    /// `path=value`.
    pub fn equals(path: &str, value: &str) -> Self {
        FieldSelector { terms: vec![FieldTerm { path: path.into(), equals: true, value: value.into() }] }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let first = self.values.first().map_or("", String::as_str);
        match self.operator {
            Operator::In => write!(f, "{key} in ({})", self.values.join(",")),
            Operator::NotIn => write!(f, "{key} notin ({})", self.values.join(",")),
            Operator::Equals => write!(f, "{key}={first}"),
            Operator::NotEquals => write!(f, "{key}!={first}"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{first}"),
            Operator::LessThan => write!(f, "{key}<{first}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.requirements.iter().map(ToString::to_string).collect();
        f.write_str(&parts.join(","))
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term = |term: &FieldTerm| {
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            format!("{}{}{value}", term.path, if term.equals { "=" } else { "!=" })
        };
        f.write_str(&self.terms.iter().map(term).collect::<Vec<_>>().join(","))
    }
}
