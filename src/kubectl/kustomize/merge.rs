//! Strategic merge of a patch into an object, as kyaml's merge does it.
//!
//! The order of the steps is kept as it is there, because results depend on it: elements of a merged list
//! come in the order of the patch first, and every value of the object is walked, so that members without a
//! value go and elements with the same key become one.

use super::error::{BuildError, Built};
use super::node::{Kind, Node};
use super::schema::Schema;

/// What a walk leaves: nothing, or a value. A null that was written out stays if nobody touches it.
struct Left {
    node: Option<Node>,
    keep_null: bool,
}

impl Left {
    fn of(node: Option<Node>) -> Self {
        Left { node, keep_null: false }
    }
}

/// The merged object; none if the patch deletes it.
pub(crate) fn merge(patch: &Node, object: &Node) -> Built<Option<Node>> {
    Ok(walk(Some(object.clone()), Some(patch.clone()), None)?.node)
}

fn real(node: Option<&Node>) -> Option<&Node> {
    node.filter(|node| !node.is_null())
}

fn walk(dest: Option<Node>, patch: Option<Node>, schema: Option<Schema>) -> Built<Left> {
    let schema = schema
        .or_else(|| [&dest, &patch].into_iter().find_map(|one| real(one.as_ref()).and_then(Schema::of)));
    let kind = real(dest.as_ref()).or(real(patch.as_ref())).map(Node::kind);
    for node in [&dest, &patch].into_iter().flatten() {
        if let Some(kind) = kind {
            node.expect(kind)?;
        }
    }
    match kind {
        None | Some(Kind::Map) => walk_map(dest, patch, schema),
        Some(Kind::Scalar) => Ok(Left::of(patch.or(dest))),
        Some(Kind::List) => match schema.and_then(Schema::keys) {
            Some(keys) => Ok(Left::of(walk_list(dest, patch, schema, keys)?)),
            None => Ok(Left::of(patch.or(dest))),
        },
    }
}

#[derive(PartialEq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive_named(text: &str) -> Built<Directive> {
    match text {
        "delete" => Ok(Directive::Delete),
        "replace" => Ok(Directive::Replace),
        "merge" => Ok(Directive::Merge),
        other => Err(BuildError::told(format!("unknown patch strategy '{other}'"))),
    }
}

/// Reads and takes out `$patch`.
fn directive(patch: Option<&mut Node>) -> Built<Directive> {
    match patch {
        None => Ok(Directive::Merge),
        Some(Node::Scalar(_)) => {
            Err(BuildError::told("no implemented strategic merge patch strategy for a scalar"))
        }
        Some(patch @ Node::Map(_)) => {
            let Some(found) = patch.get("$patch") else { return Ok(Directive::Merge) };
            let directive = directive_named(found.text())?;
            patch.remove("$patch");
            Ok(directive)
        }
        Some(Node::List(items)) => {
            let found = items.iter().find(|one| one.get("$patch").is_some());
            let Some(found) = found.filter(|one| one.members().len() == 1) else {
                return Ok(Directive::Merge);
            };
            let text = found.get("$patch").map_or("", Node::text).to_string();
            let directive = directive_named(&text)?;
            set_element(items, None, &["$patch"], &[text])?;
            Ok(directive)
        }
    }
}

fn walk_map(dest: Option<Node>, mut patch: Option<Node>, schema: Option<Schema>) -> Built<Left> {
    let mut dest = match dest {
        Some(dest) if !dest.is_null() => {
            if patch.as_ref().is_some_and(Node::is_null) {
                return Ok(Left::of(None));
            }
            match directive(patch.as_mut())? {
                Directive::Delete => return Ok(Left::of(None)),
                Directive::Replace => match patch.clone() {
                    Some(patch) => patch,
                    None => return Ok(Left::of(None)),
                },
                Directive::Merge => dest,
            }
        }
        missing => {
            if matches!(directive(patch.as_mut()), Ok(Directive::Delete)) {
                return Ok(Left::of(None));
            }
            match (&patch, missing) {
                (None, Some(null)) if !null.text().is_empty() => {
                    return Ok(Left { node: Some(null), keep_null: true });
                }
                (None, _) => return Ok(Left::of(None)),
                (Some(patch), _) => patch.clone(),
            }
        }
    };
    let mut names: Vec<String> = Vec::new();
    for node in [Some(&dest), patch.as_ref()].into_iter().flatten() {
        node.expect(Kind::Map)?;
        names.extend(node.members().iter().map(|(key, _)| key.text.clone()));
    }
    names.sort();
    names.dedup();
    for name in names {
        let schema = schema.and_then(|schema| schema.field(&name));
        let of = |node: &Node| node.get(&name).cloned();
        let left = walk(of(&dest), patch.as_ref().and_then(of), schema)?;
        match left.node {
            Some(node) if !node.is_null() || left.keep_null => dest.set(&name, node)?,
            _ => {
                dest.remove(&name);
            }
        }
    }
    Ok(Left::of(Some(dest)))
}

fn walk_list(
    dest: Option<Node>,
    mut patch: Option<Node>,
    schema: Option<Schema>,
    keys: &[&'static str],
) -> Built<Option<Node>> {
    let dest = match dest {
        Some(dest) if !dest.is_null() => {
            if patch.as_ref().is_some_and(Node::is_null) {
                return Ok(None);
            }
            match directive(patch.as_mut())? {
                Directive::Delete => return Ok(None),
                Directive::Replace => match patch.clone() {
                    Some(patch) => patch,
                    None => return Ok(None),
                },
                Directive::Merge => dest,
            }
        }
        _ => match patch.clone() {
            Some(patch) => patch,
            None => return Ok(None),
        },
    };
    let own: Vec<Node> = dest.items().to_vec();
    let patch: Vec<Node> = patch.as_ref().map(|patch| patch.items().to_vec()).unwrap_or_default();
    let keys: Vec<&str> = if keys.is_empty() { vec![""] } else { keys.to_vec() };
    let values = element_values(&patch, &own, &keys);
    merge_elements(own, &patch, schema.map(Schema::elements), values, &keys)
        .map(|list| Some(Node::List(list)))
}

/// What the elements have in the keys, those of the patch first, without repeats.
fn element_values(patch: &[Node], own: &[Node], keys: &[&str]) -> Vec<Vec<String>> {
    let mut values: Vec<Vec<String>> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for element in patch.iter().chain(own) {
        let value: Vec<String> = keys
            .iter()
            .map(|key| match *key {
                "" => element.text().to_string(),
                key => element.get(key).filter(|one| !one.is_empty()).map_or("", Node::text).to_string(),
            })
            .collect();
        if seen.insert(value.clone()) {
            values.push(value);
        }
    }
    values
}

/// Elements that agree in one key, and where the others are absent on one side, are the same.
fn unite(values: &mut [Vec<String>]) {
    for first in 0..values.len() {
        let one = values[first].clone();
        for second in 0..values.len() {
            if let Some(united) = united(&one, &values[second]) {
                values[first].clone_from(&united);
                values[second] = united;
            }
        }
    }
}

fn united(one: &[String], other: &[String]) -> Option<Vec<String>> {
    let mut common = false;
    let mut result = Vec::new();
    for (one, other) in one.iter().zip(other) {
        if one == other {
            common = true;
        } else if !one.is_empty() && !other.is_empty() {
            return None;
        }
        result.push(if one.is_empty() { other.clone() } else { one.clone() });
    }
    common.then_some(result)
}

/// The keys that any element has, and what this one has in them.
fn valid<'k>(used: &[bool], values: &[String], keys: &[&'k str]) -> (Vec<&'k str>, Vec<String>) {
    if !used.contains(&true) {
        return (keys.to_vec(), values.to_vec());
    }
    let of = |at: usize| used.get(at).copied().unwrap_or(false);
    let valid_keys = keys.iter().enumerate().filter(|(at, _)| of(*at)).map(|(_, key)| *key).collect();
    let valid_values = values
        .iter()
        .enumerate()
        .filter(|(at, value)| !value.is_empty() || of(*at))
        .map(|(_, one)| one.clone());
    (valid_keys, valid_values.collect())
}

fn used(values: &[Vec<String>], keys: usize) -> Vec<bool> {
    (0..keys).map(|at| values.iter().any(|one| one.get(at).is_some_and(|value| !value.is_empty()))).collect()
}

fn merge_elements(
    mut own: Vec<Node>,
    patch: &[Node],
    schema: Option<Schema>,
    mut values: Vec<Vec<String>>,
    keys: &[&str],
) -> Built<Vec<Node>> {
    if keys.len() > 1 {
        unite(&mut values);
    }
    let any_used = used(&values, keys.len());
    let mut added: Vec<Node> = Vec::new();
    let mut valid_keys = Vec::new();
    for value in &values {
        let (used_keys, used_values) = valid(&any_used, value, keys);
        valid_keys = used_keys;
        let own_used = used(std::slice::from_ref(&used_values), valid_keys.len());
        let (match_keys, match_values) = valid(&own_used, &used_values, &valid_keys);
        let place = find_element(&own, &match_keys, &match_values);
        let origin = find_element(patch, &match_keys, &match_values).map(|at| &patch[at]);
        let left = walk(place.map(|at| own[at].clone()), origin.cloned(), schema)?.node;
        let Some(mut left) = left.filter(|node| !node.is_null() && *node != Kind::Map.empty()) else {
            set_element(&mut own, None, &valid_keys, &used_values)?;
            continue;
        };
        for (key, value) in valid_keys.iter().zip(&used_values) {
            if !key.is_empty() && left.get(key).is_none() && !value.is_empty() {
                left.set(key, Node::open(value))?;
            }
        }
        // Upstream merges into the object's own element, which is put over the merged one at the end. So an
        // element with `$patch: replace` is not replaced.
        let replaces = origin.and_then(|one| one.get("$patch")).is_some_and(|one| one.text() == "replace");
        if let Some(at) = place.filter(|_| !replaces) {
            own[at].clone_from(&left);
        }
        set_element(&mut added, Some(&left), &valid_keys, &used_values)?;
    }
    if values.is_empty() {
        return Ok(own);
    }
    append(&mut added, &own, &valid_keys)?;
    Ok(added)
}

fn append(list: &mut Vec<Node>, own: &[Node], keys: &[&str]) -> Built<()> {
    for element in own {
        if keys.first().is_none_or(|key| key.is_empty()) {
            set_element(list, Some(element), &[""], &[element.text().to_string()])?;
            continue;
        }
        let mut values = Vec::new();
        for key in keys {
            match element.field(key)? {
                Some(value) => values.push(value.text().to_string()),
                None => list.push(element.clone()),
            }
        }
        if keys.len() > 1 {
            set_element(list, None, keys, &values)?;
        }
        set_element(list, Some(element), keys, &values)?;
    }
    Ok(())
}

fn find_element(list: &[Node], keys: &[&str], values: &[String]) -> Option<usize> {
    if keys.first().is_none_or(|key| key.is_empty()) {
        let wanted = values.first().map_or("", String::as_str);
        return list.iter().position(|one| one.text() == wanted);
    }
    if keys.len() != values.len() {
        return None;
    }
    list.iter().position(|one| {
        keys.iter().zip(values).all(|(key, value)| one.get(key).is_some_and(|found| found.text() == value))
    })
}

/// Puts an element in the place of those that match; at the end if there are none. Without an element those
/// that match are removed.
fn set_element(list: &mut Vec<Node>, element: Option<&Node>, keys: &[&str], values: &[String]) -> Built<()> {
    let by_member = keys.first().is_some_and(|key| !key.is_empty())
        && values.first().is_some_and(|value| !value.is_empty());
    let mut matched = false;
    let mut result = Vec::with_capacity(list.len() + 1);
    for one in std::mem::take(list) {
        if one.is_null() || one == Kind::Map.empty() {
            continue;
        }
        if by_member && one.kind() != Kind::Map {
            result.push(one);
            continue;
        }
        if !element_matches(&one, keys, values)? {
            if !values.is_empty() {
                result.push(one);
            }
            continue;
        }
        matched = true;
        result.extend(element.cloned());
    }
    *list = result;
    if let Some(element) = element.filter(|one| !one.is_null())
        && !matched
    {
        list.push(element.clone());
    }
    Ok(())
}

fn element_matches(element: &Node, keys: &[&str], values: &[String]) -> Built<bool> {
    let mut found = false;
    for (at, key) in keys.iter().enumerate() {
        if let Some(value) = values.get(at) {
            found = if key.is_empty() {
                element.expect(Kind::Scalar)?;
                element.value() == value
            } else {
                element.field(key)?.is_some_and(|one| value.is_empty() || one.text() == value)
            };
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(found)
}
