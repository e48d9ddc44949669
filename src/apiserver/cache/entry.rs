//! A cached object with its selectable fields, a change of one, and the filter that watches and lists apply.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use api::{FieldSelector, LabelSelector, Object, WatchEvent};

use super::fields::pick;
use super::selectable::Selectable;

/// An object and, once somebody asked, the values of its kind's selectable fields.
pub(crate) struct Entry {
    pub(crate) object: Arc<Object>,
    /// Most objects are never selected by a field, and reading the values means parsing the object.
    fields: OnceLock<Box<[Box<str>]>>,
}

impl Entry {
    pub(crate) fn new(object: Arc<Object>) -> Self {
        Entry { object, fields: OnceLock::new() }
    }

    /// The value of a selectable field; absent and unknown fields are empty.
    pub(crate) fn field(&self, selectable: &Selectable, path: &str) -> &str {
        match path {
            "metadata.name" => self.object.name(),
            "metadata.namespace" => self.object.namespace().unwrap_or(""),
            _ => {
                let at = selectable.fields.iter().position(|field| *field == path);
                at.and_then(|at| self.fields(selectable).get(at)).map_or("", |value| value)
            }
        }
    }

    fn fields(&self, selectable: &Selectable) -> &[Box<str>] {
        self.fields.get_or_init(|| {
            let paths: Vec<&str> = selectable.fields.iter().map(|path| &**path).collect();
            let strategy = selectable.strategy();
            let sources: Vec<&str> = paths.iter().map(|path| strategy.field_source(path)).collect();
            let tree = pick(self.object.stored_bytes(), &sources);
            let value = |path: &&str| strategy.field_value(&tree, path).into_owned().into_boxed_str();
            paths.iter().map(value).collect()
        })
    }
}

/// One change of one object.
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) at: Instant,
    pub(crate) old: Option<Arc<Entry>>,
    pub(crate) new: Option<Arc<Entry>>,
    /// The old object at the change's revision: what a deletion delivers. Made for the first who needs it.
    gone: OnceLock<Arc<Object>>,
}

impl Change {
    pub(crate) fn new(revision: u64, old: Option<Arc<Entry>>, new: Option<Arc<Entry>>) -> Self {
        Change { revision, at: Instant::now(), old, new, gone: OnceLock::new() }
    }

    pub(crate) fn size(&self) -> usize {
        let bytes =
            |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |entry| entry.object.stored_bytes().len());
        // The old object is most often the new one of an earlier change, so it counts only if it is the last
        // holder.
        if self.new.is_some() { bytes(&self.new) } else { bytes(&self.old) }
    }

    /// Lets go of what only readers in this process want of objects that are no more: their typed form.
    pub(crate) fn forget_typed(&self) {
        if let Some(old) = &self.old {
            old.object.forget_typed();
        }
        if let Some(gone) = self.gone.get() {
            gone.forget_typed();
        }
    }

    /// What one sees of it who wants every object.
    pub(crate) fn event(&self) -> Option<WatchEvent> {
        self.between(self.old.as_ref(), self.new.as_ref())
    }

    fn between(&self, old: Option<&Arc<Entry>>, new: Option<&Arc<Entry>>) -> Option<WatchEvent> {
        match (old, new) {
            (None, None) => None,
            (None, Some(new)) => Some(WatchEvent::Added(new.object.clone())),
            (Some(_), Some(new)) => Some(WatchEvent::Modified(new.object.clone())),
            (Some(old), None) => Some(WatchEvent::Deleted(self.gone(old))),
        }
    }

    fn gone(&self, old: &Entry) -> Arc<Object> {
        let make = || match old.object.at_version(self.revision) {
            Ok(object) => Arc::new(object),
            // Only bytes that were put into the store by hand can fail here; they are delivered as they were.
            Err(_) => old.object.clone(),
        };
        self.gone.get_or_init(make).clone()
    }
}

/// Which objects a list or watch wants.
#[derive(Clone)]
pub(crate) struct Filter {
    pub(crate) namespace: Option<String>,
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    pub(crate) selectable: Arc<Selectable>,
}

impl Filter {
    /// Every object of a kind.
    pub(crate) fn everything(selectable: Arc<Selectable>) -> Self {
        Filter {
            namespace: None,
            labels: LabelSelector::everything(),
            fields: FieldSelector::default(),
            selectable,
        }
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The one value that a field must have, if the selector demands one.
    pub(crate) fn demands(&self, path: &str) -> Option<&str> {
        let term = self.fields.terms.iter().find(|term| term.equals && term.path == path)?;
        Some(&term.value)
    }

    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        if let Some(namespace) = &self.namespace
            && entry.object.namespace() != Some(namespace)
        {
            return false;
        }
        (self.labels.is_everything() || self.labels.matches(entry.object.labels()))
            && (self.fields.is_everything()
                || self.fields.matches(|path| entry.field(&self.selectable, path)))
    }

    /// What a watcher with this filter sees of a change: an object that begins to match is added, one that no
    /// longer does is deleted.
    pub(crate) fn event(&self, change: &Change) -> Option<WatchEvent> {
        change.between(
            change.old.as_ref().filter(|entry| self.matches(entry)),
            change.new.as_ref().filter(|entry| self.matches(entry)),
        )
    }
}
