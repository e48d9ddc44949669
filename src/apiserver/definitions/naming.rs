//! Which of the names that a definition asks for it gets: first come, first served, within its group.
//!
//! A name belongs to the definition that is served under it, which this process alone decides. A status may
//! say anything: whoever may write it could claim another's names. So it counts for less than what is served,
//! and not at all for the definition that it belongs to, but at the start, when nothing is served yet.
//!
//! A group that is built in has come first: it is closed to definitions, also where they ask for names that
//! are free, so that the kinds and versions that the server brings along cannot be shadowed or mixed with
//! others.

use std::collections::HashSet;

use api::json::{items, text};
use serde_json::{Map, Value, json};

use super::conditions::Condition;
use crate::registry::Group;

/// Names of a group.
#[derive(Default)]
struct Names {
    resources: HashSet<String>,
    kinds: HashSet<String>,
}

/// Names of a group that others have.
#[derive(Default)]
pub(super) struct Held {
    served: Names,
    /// They count only where the definition does not have the name already.
    reserved: Names,
}

impl Held {
    /// Adds the names that a definition is served under.
    pub(super) fn served(&mut self, names: &Value) {
        self.served.add(names);
    }

    /// Adds those names that a definition which is not served both asks for and has been given.
    pub(super) fn reserved(&mut self, definition: &Value) {
        let (asked, given) = (&definition["spec"]["names"], &definition["status"]["acceptedNames"]);
        let mut both = Map::new();
        for name in ["plural", "singular", "kind", "listKind"] {
            if text(asked, name) == text(given, name) {
                both.insert(name.into(), asked[name].clone());
            }
        }
        let given = items(given, "shortNames");
        let short = items(asked, "shortNames").iter().filter(|name| given.contains(name)).cloned().collect();
        both.insert("shortNames".into(), Value::Array(short));
        self.reserved.add(&Value::Object(both));
    }
}

impl Names {
    fn add(&mut self, names: &Value) {
        self.resources.extend(["plural", "singular"].map(|name| text(names, name).to_string()));
        self.resources
            .extend(items(names, "shortNames").iter().filter_map(Value::as_str).map(str::to_string));
        self.kinds.extend(["kind", "listKind"].map(|name| text(names, name).to_string()));
    }

    fn built_in(&mut self, group: &Group) {
        for row in group.resources.iter().map(|resource| &resource.row) {
            self.resources.extend([row.plural.to_string(), row.singular.to_string()]);
            self.resources.extend(row.short_names.iter().map(ToString::to_string));
            self.kinds.extend([row.kind.to_string(), row.list_kind()]);
        }
    }
}

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

    /// Whether what is served may go on under the names that were accepted: it keeps those that it cannot
    /// exchange, but its kind and its plural name are its own for ever.
    pub(super) fn suffices(&self, definition: &Value) -> bool {
        let own = |name: &str| text(&self.accepted, name) == text(&definition["spec"]["names"], name);
        let has = |name: &str| !text(&self.accepted, name).is_empty();
        own("plural") && own("kind") && has("singular") && has("listKind")
    }

    pub(super) fn condition(&self) -> Condition<'_> {
        let (reason, message) = (self.reason, &self.message);
        Condition { kind: "NamesAccepted", holds: self.all(), reason, message }
    }
}

/// Gives a definition its names; `had` are those that it has been served under, or null.
pub(super) fn names(definition: &Value, had: &Value, mut held: Held, built_in: Option<&Group>) -> Named {
    let wanted = &definition["spec"]["names"];
    let had = if built_in.is_some() { &Value::Null } else { had };
    if let Some(group) = built_in {
        held.served.built_in(group);
    }
    let mut accepted = Map::new();
    let (reason, message) = match built_in {
        Some(group) => ("GroupConflict", format!("the API group {:?} is built in", group.name)),
        None => ("NoConflicts", "no conflicts found".to_string()),
    };
    let mut named = Named { accepted: Value::Null, reason, message };
    let Held { served, reserved } = &held;
    for (name, served, reserved, reason) in [
        ("plural", &served.resources, &reserved.resources, "PluralConflict"),
        ("singular", &served.resources, &reserved.resources, "SingularConflict"),
        ("kind", &served.kinds, &reserved.kinds, "KindConflict"),
        ("listKind", &served.kinds, &reserved.kinds, "ListKindConflict"),
    ] {
        let (want, had) = (text(wanted, name), text(had, name));
        if !served.contains(want) && (want == had || !reserved.contains(want)) {
            accepted.insert(name.into(), json!(want));
            continue;
        }
        (named.reason, named.message) = (reason, format!("{want:?} is already in use"));
        if !had.is_empty() && !served.contains(had) {
            accepted.insert(name.into(), json!(had));
        }
    }
    let own = items(had, "shortNames");
    let is_taken = |value: &Value| {
        let name = value.as_str().unwrap_or("");
        served.resources.contains(name) || reserved.resources.contains(name) && !own.contains(value)
    };
    let wanted_short = items(wanted, "shortNames");
    let conflicts: Vec<String> = wanted_short
        .iter()
        .filter(|name| is_taken(name))
        .map(|name| format!("{name} is already in use"))
        .collect();
    let mut short = wanted_short.to_vec();
    match &conflicts[..] {
        [] => {}
        [only] => (named.reason, named.message) = ("ShortNamesConflict", only.clone()),
        many => (named.reason, named.message) = ("ShortNamesConflict", format!("[{}]", many.join(", "))),
    }
    if !conflicts.is_empty() {
        short = own.iter().filter(|name| !is_taken(name)).cloned().collect();
    }
    set(&mut accepted, "shortNames", short);
    set(&mut accepted, "categories", items(wanted, "categories").to_vec());
    named.accepted = Value::Object(accepted);
    named
}

fn set(names: &mut Map<String, Value>, name: &str, list: Vec<Value>) {
    if !list.is_empty() {
        names.insert(name.into(), Value::Array(list));
    }
}
