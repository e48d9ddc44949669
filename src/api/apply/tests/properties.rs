//! What holds for all objects.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::apply::{Applied, ApplyError, Change, apply, last_applied, validate};
use crate::fuzzing::{OneVersion, at_once};
use crate::kinds::{self, KindRow};
use crate::managed::{Author, Entry, Operation, Reset};
use crate::schema::random::{Dice, random_object};
use crate::schema::{self, Place};

const ROWS: &[&KindRow] = &[
    &kinds::POD,
    &kinds::DEPLOYMENT,
    &kinds::SERVICE,
    &kinds::NODE,
    &kinds::EVENT,
    &kinds::CUSTOM_RESOURCE_DEFINITION,
];

/// A configuration: what the schema allows, without elements that occur twice.
fn configuration(row: &KindRow, seed: u64) -> Value {
    let mut tree = random_object(schema::for_kind(row).unwrap(), &mut Dice(seed), 0);
    let root = Place::from(schema::for_kind(row));
    if validate::faults(root, &tree).is_some() {
        tree = json!({ "metadata": { "name": "a", "labels": { "seed": seed.to_string() } } });
    }
    tree
}

fn applied(
    row: &KindRow,
    live: &Value,
    entries: &[Entry],
    (manager, force): (&str, bool),
    patch: &Value,
) -> Result<Applied, ApplyError> {
    let version = row.api_version();
    let author = Author { manager, api_version: &version, subresource: "", now: "2026-01-01T00:00:00Z" };
    let change = Change { author: &author, reset: &Reset::Paths(&[]), force };
    let versions = OneVersion(&version, Place::from(schema::for_kind(row)));
    at_once(apply(&versions, &change, live, patch, entries.to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn applying_holds_what_it_promises(seed in any::<u64>(), other in any::<u64>()) {
        for row in ROWS {
            let (one, two) = (configuration(row, seed), configuration(row, other));
            let first = applied(row, &Value::Null, &[], ("one", false), &one).unwrap();
            // Again changes nothing.
            let again = applied(row, &first.tree, &first.entries, ("one", false), &one).unwrap();
            prop_assert_eq!(&again.tree, &first.tree);
            prop_assert_eq!(&again.entries, &first.entries);
            // By force there are no conflicts, and none afterwards.
            let forced = applied(row, &first.tree, &first.entries, ("two", true), &two).unwrap();
            let after = applied(row, &forced.tree, &forced.entries, ("two", false), &two).unwrap();
            prop_assert_eq!(&after.tree, &forced.tree);
            prop_assert_eq!(&after.entries, &forced.entries);
            // A conflict there is if, and only if, something was taken.
            let tried = applied(row, &first.tree, &first.entries, ("two", false), &two);
            let owned = |entries: &[Entry]| entries.iter().find(|one| one.manager == "one").map(|one| one.fields.clone());
            prop_assert_eq!(tried.is_err(), owned(&first.entries) != owned(&forced.entries));
            // What everybody drops is gone.
            let nothing = json!({});
            let left = applied(row, &forced.tree, &forced.entries, ("one", true), &nothing).unwrap();
            let left = applied(row, &left.tree, &left.entries, ("two", true), &nothing).unwrap();
            prop_assert!(left.entries.is_empty());
            // Only what nobody can own may remain, and what held the rest.
            let (values, identity) = (scalars(&left.tree), scalars(&identity_of(&left.tree)));
            prop_assert_eq!(values, identity, "{}: {}", row.kind, left.tree);
        }
    }
}

/// What nobody owns: name, namespace and the like.
fn identity_of(tree: &Value) -> Value {
    let mut identity = json!({ "metadata": {} });
    for name in ["apiVersion", "kind"] {
        identity[name] = tree[name].clone();
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "generation",
        "resourceVersion",
        "managedFields",
    ] {
        identity["metadata"][name] = tree["metadata"][name].clone();
    }
    identity
}

/// How many values there are that are neither null nor hold others.
fn scalars(tree: &Value) -> usize {
    match tree {
        Value::Null => 0,
        Value::Array(list) => list.iter().map(scalars).sum(),
        Value::Object(map) => map.values().map(scalars).sum(),
        _ => 1,
    }
}

#[test]
fn annotations_of_others_are_left_alone() {
    let mut tree = json!({ "metadata": { "annotations": { last_applied::ANNOTATION: "{}" } } });
    let author = Author { manager: "helm", api_version: "v1", subresource: "", now: "" };
    let before = tree.clone();
    last_applied::renew(&author, &mut tree, &json!({ "data": {} }));
    assert_eq!(tree, before);
    assert_eq!(Entry::of(&author).operation, Operation::Update);
}
