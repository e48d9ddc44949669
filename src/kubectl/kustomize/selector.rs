//! Which objects a patch or a replacement is about.

use std::collections::BTreeMap;

use api::selector::LabelSelector;
use regex::Regex;

use super::error::{BuildError, Built};
use super::ids::{Gvk, ResId};
use super::resource::Resource;

/// Group, version, kind, name and namespace are regular expressions that fit the whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    pub(crate) id: ResId,
    pub(crate) annotations: String,
    pub(crate) labels: String,
}

pub(crate) struct Matcher {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    annotations: LabelSelector,
    labels: LabelSelector,
}

impl Selector {
    pub(crate) fn matcher(&self) -> Built<Matcher> {
        Ok(Matcher {
            group: whole(&self.id.gvk.group)?,
            version: whole(&self.id.gvk.version)?,
            kind: whole(&self.id.gvk.kind)?,
            name: whole(&self.id.name)?,
            namespace: whole(&self.id.namespace)?,
            annotations: terms(&self.annotations)?,
            labels: terms(&self.labels)?,
        })
    }

    pub(crate) fn has_terms(&self) -> bool {
        !self.annotations.is_empty() || !self.labels.is_empty()
    }
}

/// An expression of Go for the whole text; none for an empty one, which fits everything.
fn whole(pattern: &str) -> Built<Option<Regex>> {
    if pattern.is_empty() {
        return Ok(None);
    }
    expression(&format!("^(?:{pattern})$")).map(Some)
}

/// An expression in Go's syntax.
pub(crate) fn expression(pattern: &str) -> Built<Regex> {
    let refuse = || BuildError::told(format!("error parsing regexp: invalid expression: `{pattern}`"));
    let translated = api::re2::translate(pattern).ok_or_else(refuse)?;
    Regex::new(&translated).map_err(|_| refuse())
}

fn terms(text: &str) -> Built<LabelSelector> {
    LabelSelector::parse(text).map_err(|error| BuildError::told(error.to_string()))
}

fn admits(pattern: Option<&Regex>, text: &str) -> bool {
    pattern.is_none_or(|pattern| pattern.is_match(text))
}

impl Matcher {
    pub(crate) fn admits_gvk(&self, gvk: &Gvk) -> bool {
        admits(self.group.as_ref(), &gvk.group)
            && admits(self.version.as_ref(), &gvk.version)
            && admits(self.kind.as_ref(), &gvk.kind)
    }

    pub(crate) fn admits_name(&self, name: &str) -> bool {
        admits(self.name.as_ref(), name)
    }

    pub(crate) fn admits_namespace(&self, namespace: &str) -> bool {
        admits(self.namespace.as_ref(), namespace)
    }

    pub(crate) fn admits_id(&self, id: &ResId) -> bool {
        self.admits_gvk(&id.gvk) && self.admits_name(&id.name) && self.admits_namespace(&id.namespace)
    }

    /// By annotations and labels.
    pub(crate) fn admits_marks(&self, resource: &Resource) -> bool {
        let fits = |selector: &LabelSelector, own: &dyn Fn() -> BTreeMap<String, String>| {
            selector.is_everything() || selector.matches(&own())
        };
        fits(&self.annotations, &|| resource.annotations()) && fits(&self.labels, &|| resource.labels())
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:a={}:l={}", self.id, self.annotations, self.labels)
    }
}
