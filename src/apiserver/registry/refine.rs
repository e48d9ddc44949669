//! Field selectors of custom resources, which compare objects in the version that is asked for.
//!
//! The cache holds objects in the version that they are stored in, where the field may have another name, so
//! these terms are not the cache's filter: what it lets through is converted first, then held against them. A
//! watch remembers what it has let through, for an object that no longer matches is gone for its reader.
//!
//! Absent: an index of such fields, and full pages: a page of a list has what is left of as many objects as
//! it may have.

use std::borrow::Cow;
use std::collections::HashMap;

use api::{ApiError, FieldSelector, Object, WatchEvent};
use serde_json::Value;

use super::{Call, Registry};
use crate::cache::{Filter, pick};

/// Terms that are compared in the version that is asked for.
pub(super) struct Refine(FieldSelector);

impl Registry {
    /// What the cache compares of a selector, and what is compared after conversion.
    pub(super) fn filters(
        &self,
        call: &Call<'_>,
        labels: &api::LabelSelector,
        fields: &FieldSelector,
    ) -> Result<(Filter, Option<Refine>), ApiError> {
        if call.resource.fields.is_empty() {
            return Ok((self.filter(call, labels, fields)?, None));
        }
        let own = |path: &str| call.resource.fields.iter().any(|own| own == path);
        let (mut cached, mut refined) = (fields.clone(), fields.clone());
        cached.terms.retain(|term| !own(&term.path));
        refined.terms.retain(|term| own(&term.path));
        let refine = (!refined.terms.is_empty()).then_some(Refine(refined));
        Ok((self.filter(call, labels, &cached)?, refine))
    }
}

impl Refine {
    /// Whether an object, in the version that is asked for, has these fields.
    pub(super) fn matches(&self, object: &Object) -> bool {
        let paths: Vec<&str> = self.0.terms.iter().map(|term| term.path.as_str()).collect();
        let tree = pick(object.stored_bytes(), &paths);
        self.0.terms.iter().all(|term| {
            let found = term.path.split('.').try_fold(&tree, |at, step| at.get(step));
            let value = match found {
                None | Some(Value::Null) => Cow::Borrowed(""),
                Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
                Some(other) => Cow::Owned(other.to_string()),
            };
            (value == term.value) == term.equals
        })
    }
}

/// The same for a watch.
pub(super) struct RefinedWatch {
    refine: Refine,
    /// By namespace and name, whether the reader has the object.
    seen: HashMap<(String, String), bool>,
    /// Whether the reader may have objects that this watch has not shown.
    resumed: bool,
}

impl RefinedWatch {
    pub(super) fn new(refine: Refine, resumed: bool) -> Self {
        RefinedWatch { refine, seen: HashMap::new(), resumed }
    }

    /// What the reader sees of an event.
    pub(super) fn event(&mut self, event: WatchEvent) -> Option<WatchEvent> {
        let object = match &event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => object,
            WatchEvent::Bookmark { .. } | WatchEvent::Error(_) => return Some(event),
        };
        let key = (object.namespace().unwrap_or("").to_string(), object.name().to_string());
        let had = match &event {
            WatchEvent::Added(_) => Some(false),
            _ => self.seen.get(&key).copied(),
        };
        let had = had.unwrap_or(self.resumed);
        let matches = self.refine.matches(object);
        if matches!(event, WatchEvent::Deleted(_)) {
            self.seen.remove(&key);
            return (had || matches).then_some(event);
        }
        self.seen.insert(key, matches);
        let object = object.clone();
        match (had, matches) {
            (false, false) => None,
            (false, true) => Some(WatchEvent::Added(object)),
            (true, true) => Some(WatchEvent::Modified(object)),
            (true, false) => Some(WatchEvent::Deleted(object)),
        }
    }
}

#[cfg(test)]
mod tests;
