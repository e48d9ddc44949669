//! Variables, `$(NAME)`: deprecated, and still used.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::error::{BuildError, Built};
use super::kustomization::Var;
use super::lookup;
use super::node::{Node, Scalar, Tag};
use super::resource::Resources;
use super::specs::{self, FieldSpec, Make};

pub(crate) type Vars = BTreeMap<String, Var>;

/// Adds variables, and notes at the objects which values they are to give.
pub(crate) fn declare(vars: &mut Vars, added: &[Var], resources: &mut Resources) -> Built<()> {
    for var in added {
        let by_all = !var.object.namespace.is_empty();
        let matched = resources
            .matching_any(|id| if by_all { var.object.same(id) } else { var.object.same_name_and_kind(id) });
        match matched[..] {
            [] => {}
            [one] => resources.0[one].variables.push(var.name.clone()),
            _ => {
                return Err(BuildError::told(format!(
                    "found {} resId matches for var {} (unable to disambiguate)",
                    matched.len(),
                    shown(var)
                )));
            }
        }
    }
    added.iter().try_for_each(|var| insert(vars, var.clone()))
}

pub(crate) fn insert(vars: &mut Vars, var: Var) -> Built<()> {
    match vars.entry(var.name.clone()) {
        Entry::Vacant(free) => {
            free.insert(var);
            Ok(())
        }
        Entry::Occupied(_) => Err(BuildError::told(format!("var '{}' already encountered", var.name))),
    }
}

/// As Go prints the structure.
fn shown(var: &Var) -> String {
    let id = &var.object;
    format!(
        "{{{} {{{} {} {} {}}} {{{}}}}}",
        var.name,
        id.gvk.api_version(),
        id.gvk,
        id.name,
        id.namespace,
        var.field_path
    )
}

/// Puts the values in the places of the names; gives the names that stand nowhere.
pub(crate) fn resolve(vars: &Vars, table: &[FieldSpec], resources: &mut Resources) -> Built<Vec<String>> {
    let mut values = BTreeMap::new();
    for var in vars.values() {
        values.insert(var.name.as_str(), value_of(var, resources)?);
    }
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let mut used = std::collections::BTreeSet::new();
    for resource in &mut resources.0 {
        for spec in table {
            specs::visit(&mut resource.node, spec, Make::Nothing, &mut |node| {
                replace_in(node, &mut |name| {
                    let value = values.get(name)?;
                    used.insert(name.to_string());
                    Some(value.clone())
                })
            })?;
        }
    }
    Ok(vars.keys().filter(|name| !used.contains(*name)).cloned().collect())
}

fn value_of(var: &Var, resources: &Resources) -> Built<Scalar> {
    let Some(owner) = resources.0.iter().find(|one| one.variables.contains(&var.name)) else {
        return Err(BuildError::told(format!(
            "var '{}' cannot be mapped to a field in the set of known resources",
            shown(var)
        )));
    };
    let path = indexed(&lookup::split(&var.field_path));
    match lookup::get(&owner.node, &path) {
        Ok(Some(Node::Scalar(scalar))) => Ok(scalar.clone()),
        // Maps and lists replace nothing.
        Ok(Some(_)) => Ok(Scalar::string(format!("$({})", var.name))),
        _ => Err(BuildError::told(format!(
            "field specified in var '{}' not found in corresponding resource",
            shown(var)
        ))),
    }
}

/// `ports[0]` as `ports` and `0`.
fn indexed(path: &[String]) -> Vec<String> {
    let mut parts = Vec::new();
    for part in path {
        let index = part.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
        match index.filter(|(_, index)| !index.is_empty() && index.bytes().all(|one| one.is_ascii_digit())) {
            Some((name, index)) => {
                parts.extend((!name.is_empty()).then(|| name.to_string()));
                parts.push(index.to_string());
            }
            None => parts.push(part.clone()),
        }
    }
    parts
}

type Values<'a> = dyn FnMut(&str) -> Option<Scalar> + 'a;

fn replace_in(node: &mut Node, values: &mut Values<'_>) -> Built<()> {
    if node.is_null() {
        return Ok(());
    }
    match node {
        Node::Scalar(scalar) => replace(scalar, values),
        Node::Map(members) => {
            for (key, value) in members {
                if !key.is_text() {
                    return Err(BuildError::told(format!(
                        "invalid map key: value='{}', tag='{}'",
                        key.text,
                        super::scalar::tag_name(key.tag)
                    )));
                }
                if let Node::Scalar(scalar) = value {
                    replace(scalar, values);
                }
            }
        }
        Node::List(items) => {
            for item in items {
                match item {
                    Node::Scalar(scalar) if scalar.is_text() => replace(scalar, values),
                    _ => return Err(BuildError::told("invalid value type expect a string")),
                }
            }
        }
    }
    Ok(())
}

fn replace(scalar: &mut Scalar, values: &mut Values<'_>) {
    if !scalar.is_text() {
        return;
    }
    // A name alone gives the value with its type.
    let whole = scalar.text.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')'));
    if let Some(name) = whole.filter(|name| !name.contains(')')) {
        if let Some(value) = values(name) {
            let tag = match value.tag {
                Tag::Integer | Tag::Float | Tag::Bool => value.tag,
                _ => Tag::Text,
            };
            *scalar = Scalar { text: value.text, tag, plain: true };
        }
        return;
    }
    let text = expand(&scalar.text, values);
    *scalar = Scalar { text, tag: Tag::Text, plain: true };
}

/// `$(NAME)` becomes the value and `$$` a dollar.
fn expand(text: &str, values: &mut Values<'_>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match values(name) {
                Some(value) => out.push_str(&value.text),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}
