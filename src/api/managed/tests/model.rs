//! The same rules in the plainest way: objects as flat maps of paths, an owner for each path.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::kinds::{self, KindRow};
use crate::managed::{self, Author, Entry, Fields, Operation};
use crate::schema::random::{Dice, random_object};
use crate::schema::{self, ListType, Member, Place};

type Path = Vec<String>;
/// What is at a path: the text of a value that is owned as a whole, or one word for all that have paths below
/// them.
type Flat = BTreeMap<Path, String>;

fn flatten(member: &Member<'_>, value: &Value, path: &Path, flat: &mut Flat) {
    let is_zero = match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        other => matches!(other.to_string().as_str(), "null" | "0" | "false" | "\"\""),
    };
    let mark = if member.always_there { "always" } else { "there" };
    let is_object =
        matches!(value, Value::Object(_) | Value::Null) && matches!(member.place, Place::Object(_));
    let granular = !member.atomic_map && (member.list_type.is_some() || !member.place.is_atomic());
    match value {
        Value::Array(list) if matches!(member.list_type, Some(ListType::Map | ListType::Set)) => {
            flat.insert(path.clone(), mark.to_string());
            let mut groups: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
            for item in list {
                let key = match member.list_type {
                    Some(ListType::Set) => format!("v:{item}"),
                    _ => {
                        let keys: Map<String, Value> = member
                            .map_keys
                            .iter()
                            .filter_map(|key| {
                                let value = item.get(*key).cloned();
                                Some((key.to_string(), value.or_else(|| member.place.key_default(key))?))
                            })
                            .collect();
                        if keys.is_empty() {
                            continue;
                        }
                        format!("k:{}", Value::Object(keys))
                    }
                };
                groups.entry(key).or_default().push(item);
            }
            for (key, items) in groups {
                let path = [path.clone(), vec![key]].concat();
                match &*items {
                    [one] => flatten(&Member::plain(member.place), one, &path, flat),
                    many => drop(flat.insert(path, format!("many {many:?}"))),
                }
            }
        }
        Value::Object(members) if granular => {
            flat.insert(path.clone(), mark.to_string());
            inside(member.place, members, path, flat);
        }
        Value::Null if member.always_there && granular && is_object && member.list_type.is_none() => {
            flat.insert(path.clone(), mark.to_string());
            inside(member.place, &Map::new(), path, flat);
        }
        _ if is_zero && member.always_there => drop(flat.insert(path.clone(), mark.to_string())),
        other => drop(flat.insert(path.clone(), other.to_string())),
    }
}

fn inside(place: Place<'_>, members: &Map<String, Value>, path: &Path, flat: &mut Flat) {
    let absent = place.always_there().filter(|name| !members.contains_key(*name));
    let all = members.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in all.chain(absent.map(|name| (name, &Value::Null))) {
        let path = [path.clone(), vec![format!("f:{name}")]].concat();
        flatten(&place.member(name), value, &path, flat);
    }
}

fn flat(row: &KindRow, tree: &Value) -> Flat {
    let mut flat = Flat::new();
    inside(Place::from(schema::for_kind(row)), tree.as_object().unwrap(), &Path::new(), &mut flat);
    flat
}

fn paths(fields: &Fields) -> BTreeSet<Path> {
    fn walk(node: &Map<String, Value>, path: &Path, all: &mut BTreeSet<Path>) {
        if !path.is_empty() && (node.is_empty() || node.contains_key(".")) {
            all.insert(path.clone());
        }
        for (key, below) in node.iter().filter(|(key, _)| *key != ".") {
            walk(below.as_object().unwrap(), &[path.clone(), vec![key.clone()]].concat(), all);
        }
    }
    let mut all = BTreeSet::new();
    walk(&fields.0, &Path::new(), &mut all);
    all
}

fn is_stripped(path: &Path) -> bool {
    let names: Vec<&str> = path.iter().map(|step| step.trim_start_matches("f:")).collect();
    matches!(
        &*names,
        ["apiVersion" | "kind" | "metadata"]
            | [
                "metadata",
                "name"
                    | "namespace"
                    | "creationTimestamp"
                    | "selfLink"
                    | "uid"
                    | "generation"
                    | "managedFields"
                    | "resourceVersion"
            ]
    )
}

/// Owners after a sequence of writes, by paths.
fn expected(row: &KindRow, writes: &[(usize, Value)]) -> BTreeMap<String, BTreeSet<Path>> {
    let mut owners: BTreeMap<Path, String> = BTreeMap::new();
    let mut old = flat(row, &Value::Object(Map::new()));
    for (manager, tree) in writes {
        let new = flat(row, tree);
        for path in old.keys().filter(|path| !new.contains_key(*path)) {
            owners.remove(path);
        }
        for (path, value) in &new {
            if old.get(path) != Some(value) {
                owners.insert(path.clone(), format!("m{manager}"));
            }
        }
        old = new;
    }
    let mut by_manager: BTreeMap<String, BTreeSet<Path>> = BTreeMap::new();
    for (path, manager) in owners.into_iter().filter(|(path, _)| !is_stripped(path)) {
        by_manager.entry(manager).or_default().insert(path);
    }
    by_manager
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn owners_are_those_of_the_model(seed in any::<u64>(), managers in proptest::collection::vec(0_usize..4, 1..6)) {
        for row in [&kinds::POD, &kinds::DEPLOYMENT, &kinds::SERVICE, &kinds::NODE, &kinds::EVENT, &kinds::CUSTOM_RESOURCE_DEFINITION] {
            let mut dice = Dice(seed);
            let ty = schema::for_kind(row).unwrap();
            let mut entries: Vec<Entry> = Vec::new();
            let mut writes: Vec<(usize, Value)> = Vec::new();
            for manager in &managers {
                let mut tree = random_object(ty, &mut dice, 0);
                // Half of what was there stays.
                if let Some((_, before)) = writes.last() {
                    for (name, value) in before.as_object().unwrap() {
                        if seed.rotate_left(writes.len() as u32 + name.len() as u32) & 1 == 0 {
                            tree[name] = value.clone();
                        }
                    }
                }
                let old = writes.last().map(|(_, tree)| tree);
                let delta = managed::compare(Place::from(Some(ty)), old, &tree);
                let name = format!("m{manager}");
                let now = format!("2026-01-01T00:00:{:02}Z", writes.len());
                let author = Author { manager: &name, api_version: "v1", subresource: "", now: &now };
                managed::update(&mut entries, delta, &author);
                writes.push((*manager, tree));
            }
            let found: BTreeMap<String, BTreeSet<Path>> =
                entries.iter().map(|entry| (entry.manager.clone(), paths(&entry.fields))).collect();
            prop_assert_eq!(found, expected(row, &writes), "{}", row.kind);
            prop_assert!(entries.iter().all(|entry| entry.operation == Operation::Update));
        }
    }
}
