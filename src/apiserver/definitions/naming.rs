//! Which of the names that a definition asks for it gets: first come, first served, within its group.
//!
//! A group that is built in has come first: it is closed to definitions, also where they ask for names that are free, so
//! that the kinds and versions that the server brings along cannot be shadowed or mixed with others.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::Condition;
use crate::printers::{items, text};
use crate::registry::Group;

/// What naming comes to.
pub(super) struct Named {
    pub(super) accepted: Value,
    /// The condition `NamesAccepted`.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Named {
    pub(super) fn all(&self) -> bool {
        self.reason == "NoConflicts"
    }

    pub(super) fn condition(&self) -> Condition<'_> {
        let (reason, message) = (self.reason, &self.message);
        Condition { kind: "NamesAccepted", holds: self.all(), reason, message }
    }
}

/// Looks at a definition beside the others of its group, which may be a built-in one.
pub(super) fn names<'a>(
    definition: &Value,
    others: impl Iterator<Item = &'a Value>,
    built_in: Option<&Group>,
) -> Named {
    let (mut resources, mut kinds) = (HashSet::new(), HashSet::new());
    for other in others {
        let names = &other["status"]["acceptedNames"];
        resources.extend(["plural", "singular"].map(|name| text(names, name).to_string()));
        resources.extend(items(names, "shortNames").iter().filter_map(Value::as_str).map(str::to_string));
        kinds.extend(["kind", "listKind"].map(|name| text(names, name).to_string()));
    }
    for row in built_in.iter().flat_map(|group| &group.resources).map(|resource| &resource.row) {
        resources.extend([row.plural.to_string(), row.singular.to_string()]);
        resources.extend(row.short_names.iter().map(ToString::to_string));
        kinds.extend([row.kind.to_string(), row.list_kind()]);
    }
    let wanted = &definition["spec"]["names"];
    // Nothing that was accepted before, or says so, counts against what is built in.
    let had = if built_in.is_some() { &Value::Null } else { &definition["status"]["acceptedNames"] };
    let mut accepted: Map<String, Value> = had.as_object().cloned().unwrap_or_default();
    let (reason, message) = match built_in {
        Some(group) => ("GroupConflict", format!("the API group {:?} is built in", group.name)),
        None => ("NoConflicts", "no conflicts found".to_string()),
    };
    let mut named = Named { accepted: Value::Null, reason, message };
    for (name, taken, reason) in [
        ("plural", &resources, "PluralConflict"),
        ("singular", &resources, "SingularConflict"),
        ("kind", &kinds, "KindConflict"),
        ("listKind", &kinds, "ListKindConflict"),
    ] {
        let want = text(wanted, name);
        if want != text(had, name) && taken.contains(want) {
            (named.reason, named.message) = (reason, format!("{want:?} is already in use"));
        } else {
            accepted.insert(name.into(), json!(want));
        }
    }
    let own = items(had, "shortNames");
    let short: Vec<&Value> = items(wanted, "shortNames").iter().collect();
    let conflicts: Vec<String> = short
        .iter()
        .filter(|name| !own.contains(name) && resources.contains(name.as_str().unwrap_or("")))
        .map(|name| format!("{name} is already in use"))
        .collect();
    match &conflicts[..] {
        [] => set(&mut accepted, "shortNames", short.into_iter().cloned().collect()),
        [only] => (named.reason, named.message) = ("ShortNamesConflict", only.clone()),
        many => (named.reason, named.message) = ("ShortNamesConflict", format!("[{}]", many.join(", "))),
    }
    set(&mut accepted, "categories", items(wanted, "categories").to_vec());
    named.accepted = Value::Object(accepted);
    named
}

fn set(names: &mut Map<String, Value>, name: &str, list: Vec<Value>) {
    if list.is_empty() {
        names.remove(name);
    } else {
        names.insert(name.into(), Value::Array(list));
    }
}
