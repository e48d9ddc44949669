//! Whom objects select, by selectors that are parsed once per version of the object: what a pod's change
//! costs must not depend on how long the selectors of its namespace are.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Kinded, LabelMatcher, LabelSelector, Object};
use client::Informer;

use crate::context::Key;

/// The objects of a namespace that select one of these sets of labels.
pub(crate) fn selecting<K>(
    owners: &Informer<K>,
    namespace: Option<&str>,
    labels: &[&BTreeMap<String, String>],
) -> Vec<Arc<Object>> {
    let mut found = owners.objects(namespace);
    found.retain(|owner| {
        owner.selector().is_some_and(|selector| labels.iter().any(|labels| selector.matches(labels)))
    });
    found
}

/// The same of controllers, whose empty selectors select nothing.
pub(crate) fn adopting<K>(
    owners: &Informer<K>,
    namespace: Option<&str>,
    labels: Option<&BTreeMap<String, String>>,
) -> Vec<Arc<Object>> {
    let none = BTreeMap::new();
    let mut found = selecting(owners, namespace, &[labels.unwrap_or(&none)]);
    found.retain(|owner| owner.selector().is_some_and(|selector| !selector.is_everything()));
    found
}

/// An object with its selector; without one it selects nothing.
pub(crate) fn with_selector<K: Kinded>(
    owners: &Informer<K>,
    key: &Key,
) -> Option<(Arc<K>, Arc<LabelMatcher>)> {
    let object = owners.object(Some(&key.0), &key.1)?;
    let typed = object.typed().ok()?;
    Some((typed, object.selector().unwrap_or_else(|| Arc::new(LabelSelector::nothing().into()))))
}

pub(crate) fn object_key(object: &Object) -> Key {
    (object.namespace().unwrap_or("").to_string(), object.name().to_string())
}
