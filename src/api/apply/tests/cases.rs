//! structured-merge-diff's own cases: `cases.jsonl`, one schema or case a line. Objects are what upstream's
//! tests give to its code, results are what that code made of them. A schema there is a structural one here;
//! roots that are no maps stand under `x`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::apply::{self, ApplyError, BoxFuture, Change, Versions};
use crate::fuzzing::at_once;
use crate::managed::{self, Author, Entry, Fields, Operation, Reset};
use crate::schema::Place;
use crate::schema::structural::{Parser, Structural};
use crate::validation::Path;

static CASES: &str = include_str!("../cases.jsonl");

struct Cases {
    schemas: Vec<Arc<Structural>>,
    cases: Vec<(String, Value)>,
}

fn read() -> Cases {
    let mut all = Cases { schemas: Vec::new(), cases: Vec::new() };
    for line in CASES.lines() {
        let line: Map<String, Value> = serde_json::from_str(line).unwrap();
        let (kind, case) = line.into_iter().next().unwrap();
        if kind == "schema" {
            let (schema, _) = Parser::default().read(&case, &Path::new("schema"), false);
            all.schemas.push(Arc::new(schema));
        } else {
            all.cases.push((kind, case));
        }
    }
    all
}

impl Cases {
    fn of(&self, kind: &str) -> Vec<(&Structural, &Value)> {
        let found: Vec<_> = self
            .cases
            .iter()
            .filter(|(own, _)| own == kind)
            .map(|(_, case)| (&*self.schemas[index(case)], case))
            .collect();
        assert!(found.len() > 5, "{kind}");
        found
    }
}

fn index(case: &Value) -> usize {
    usize::try_from(case["schema"].as_u64().unwrap()).unwrap()
}

fn set(value: &Value) -> Fields {
    serde_json::from_value(value.clone()).unwrap()
}

/// Null and nothing at the root are the same here.
fn map(value: &Value) -> Value {
    if value.is_null() { json!({}) } else { value.clone() }
}

#[test]
fn configurations_are_merged() {
    let all = read();
    for (schema, case) in all.of("merge") {
        let mut live = map(&case["lhs"]);
        apply::merge::merge(Place::Structural(schema), &mut live, &map(&case["rhs"]));
        assert_eq!(live, map(&case["out"]), "{case}");
    }
}

#[test]
fn fields_are_found() {
    let all = read();
    for (schema, case) in all.of("fields") {
        let fields = apply::fields::of(Place::Structural(schema), &case["object"]);
        assert_eq!(fields, set(&case["set"]), "{case}");
    }
}

#[test]
fn fields_are_removed() {
    let all = read();
    for (schema, case) in all.of("remove") {
        let mut tree = case["object"].clone();
        apply::remove::remove(Place::Structural(schema), &mut tree, &set(&case["set"]));
        // Upstream gives null for what is empty and was not made so; in an object both are the same.
        assert_eq!(without_nothing(tree), without_nothing(case["out"].clone()), "{case}");
    }
}

/// Without members that are null or empty.
fn without_nothing(value: Value) -> Value {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, value)| (name, without_nothing(value)))
            .filter(|(_, value)| !is_nothing(value))
            .collect::<Map<String, Value>>()
            .into(),
        Value::Array(list) => list.into_iter().map(without_nothing).collect(),
        Value::Null => json!({}),
        other => other,
    }
}

#[test]
fn objects_are_compared() {
    let all = read();
    for (schema, case) in all.of("compare") {
        let (lhs, rhs) = (map(&case["lhs"]), map(&case["rhs"]));
        let delta = managed::compare(Place::Structural(schema), Some(&lhs), &rhs);
        let mut changed = set(&case["added"]);
        changed.unite(set(&case["modified"]));
        assert_eq!(delta.changed, changed, "{case}");
        // Upstream has an element that comes to occur twice, or ceases to, in both sets; the change is what
        // counts.
        let (mut removed, mut expected) = (delta.removed, set(&case["removed"]));
        removed.subtract(&changed);
        expected.subtract(&changed);
        assert_eq!(removed, expected, "{case}");
    }
}

#[test]
fn objects_are_checked_with_upstreams_words() {
    let all = read();
    let mut refused = 0;
    for (schema, case) in all.of("validate") {
        let found = apply::validate::faults(Place::Structural(schema), &case["object"]);
        let prefix = if case["wrapped"] == true { ".x" } else { "" };
        let expected = case["error"].as_str().map(|text| {
            let text = text.replace("map[interface {}]", "map[string]");
            match (prefix, text.strip_prefix("errors:\n  ")) {
                ("", _) => text,
                (_, Some(rest)) => format!("errors:\n  .x{}", rest.replace("\n  ", "\n  .x")),
                _ if text.starts_with(['.', '[']) => format!(".x{text}"),
                _ => format!(".x: {text}"),
            }
        });
        refused += usize::from(expected.is_some());
        // Go walks over maps in any order.
        let sorted = |text: Option<String>| {
            text.map(|text| {
                let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
                lines.sort();
                lines
            })
        };
        assert_eq!(sorted(found), sorted(expected), "{case}");
    }
    assert!(refused > 30, "{refused}");
}

#[test]
fn sets_follow_their_schema() {
    let all = read();
    for (schema, case) in all.of("reconcile") {
        let entry = |fields: Fields| Entry { fields, ..Entry::of(&author("m", "v1")) };
        let mut entries = vec![entry(set(&case["set"]))];
        let versions = Sequence { roots: BTreeMap::from([("v1".to_string(), schema)]), is_renaming: false };
        let changed = apply::reconcile::all(&versions, &mut entries);
        assert_eq!(changed, !case["out"].is_null(), "{case}");
        let expected = if changed { set(&case["out"]) } else { set(&case["set"]) };
        assert_eq!(entries[0].fields, expected, "{case}");
    }
}

struct Sequence<'a> {
    roots: BTreeMap<String, &'a Structural>,
    /// Members end in their version.
    is_renaming: bool,
}

impl Versions for Sequence<'_> {
    fn root(&self, version: &str) -> Option<Place<'_>> {
        self.roots.get(version).map(|root| Place::Structural(root))
    }

    fn convert<'a>(
        &'a self,
        tree: &'a Value,
        from: &'a str,
        to: &'a str,
    ) -> BoxFuture<'a, Result<Value, crate::ApiError>> {
        let tree = if self.is_renaming { rename(tree, from, to) } else { tree.clone() };
        Box::pin(std::future::ready(Ok(tree)))
    }
}

fn rename(tree: &Value, from: &str, to: &str) -> Value {
    match tree {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| {
                let name = name.strip_suffix(from).map_or(name.clone(), |stem| format!("{stem}{to}"));
                (name, rename(value, from, to))
            })
            .collect::<Map<String, Value>>()
            .into(),
        Value::Array(list) => list.iter().map(|one| rename(one, from, to)).collect(),
        other => other.clone(),
    }
}

fn author<'a>(manager: &'a str, api_version: &'a str) -> Author<'a> {
    Author { manager, api_version, subresource: "", now: "2026-01-01T00:00:00Z" }
}

#[test]
fn sequences_of_writes_end_as_upstreams() {
    let all = read();
    let mut count = 0;
    for (name, case) in all.cases.iter().filter(|(kind, _)| kind == "sequence") {
        assert_eq!(name, "sequence");
        let ignored = case["ignored"].as_object().unwrap();
        if ignored.is_empty() {
            sequence(&all, case);
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

fn sequence(all: &Cases, case: &Value) {
    let (mut live, mut entries) = (Value::Null, Vec::<Entry>::new());
    let mut at = String::new();
    let mut versions = Sequence { roots: BTreeMap::new(), is_renaming: case["convert"].as_bool().unwrap() };
    for op in case["ops"].as_array().unwrap() {
        let text = |member: &str| op[member].as_str().unwrap();
        let (manager, version) = (text("by"), text("version"));
        versions.roots.insert(version.to_string(), &all.schemas[index(op)]);
        if !live.is_null() && at != version {
            live = at_once(versions.convert(&live, &at, version)).unwrap();
        }
        at = version.to_string();
        let author = author(manager, version);
        let object = map(&op["object"]);
        if text("op") == "update" {
            update(&versions, &author, &mut live, &mut entries, object);
            continue;
        }
        let is_forced = op["force"] == true;
        let change = Change { author: &author, reset: &Reset::Paths(&[]), force: is_forced };
        // There may be an object that nobody owns: these cases know nothing of those before.
        let before = if entries.is_empty() { Value::Null } else { live.clone() };
        match at_once(apply::apply(&versions, &change, &before, &object, entries.clone())) {
            Ok(applied) => {
                assert!(op["conflicts"].is_null(), "no conflict at {op} of {case}");
                (live, entries) = (applied.tree, applied.entries);
            }
            Err(ApplyError::Conflicts(conflicts)) => {
                let mut found: Vec<[String; 2]> = Vec::new();
                for (owner, paths) in conflicts.paths() {
                    found.extend(paths.into_iter().map(|path| [owner.manager.clone(), path]));
                }
                found.sort();
                assert_eq!(json!(found), op["conflicts"], "{op} of {case}");
            }
            Err(ApplyError::Other(error)) => panic!("{error}: {case}"),
        }
    }
    assert_eq!(map(&live), map(&case["live"]), "{case}");
    let owners: Map<String, Value> = entries
        .iter()
        .map(|entry| (entry.manager.clone(), json!([entry.api_version, entry.fields])))
        .collect();
    assert_eq!(Value::Object(owners), case["managers"], "{case}");
}

fn update(
    versions: &Sequence<'_>,
    author: &Author<'_>,
    live: &mut Value,
    entries: &mut Vec<Entry>,
    object: Value,
) {
    apply::reconcile::all(versions, entries);
    let own = author.api_version;
    let old = map(live);
    let others: Vec<String> = entries.iter().map(|entry| entry.api_version.clone()).collect();
    for version in others.iter().filter(|version| *version != own) {
        let convert = |tree: &Value| at_once(versions.convert(tree, own, version)).unwrap();
        let root = versions.root(version).unwrap();
        let delta = managed::compare(root, Some(&convert(&old)), &convert(&object));
        managed::displace(entries, version, &delta);
    }
    // Upstream's cases tell managers apart by name only, whatever they do in which version.
    let same = entries.iter_mut().find(|entry| entry.manager == author.manager);
    if let Some(entry) = same {
        entry.operation = Operation::Update;
        entry.api_version = own.to_string();
    }
    let delta = managed::compare(versions.root(own).unwrap(), Some(&old), &object);
    managed::update(entries, delta, author);
    *live = object;
}
