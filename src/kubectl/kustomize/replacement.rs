//! Replacements: a value of one object into fields of others.

use super::error::{BuildError, Built};
use super::kustomization::{FieldOptions, Replacement, Source, Target};
use super::lookup;
use super::node::{Kind, Node, Scalar};
use super::resource::{Resource, Resources};
use super::selector::Matcher;
use super::{emit, parse};

/// Values that an object may have after a replacement: a value that is copied into itself again and again
/// doubles each time.
const MAX_VALUES: usize = 1_000_000;
/// Levels of lists and maps that it may have.
const MAX_DEPTH: usize = 400;

const DEFAULT_PATH: &str = "metadata.name";

pub(crate) fn run(replacements: &[Replacement], resources: &mut Resources) -> Built<()> {
    for replacement in replacements {
        let has_source = replacement.source.is_some() || replacement.source_value.is_some();
        let Some(targets) = replacement.targets.as_ref().filter(|_| has_source) else {
            return Err(BuildError::told("replacements must specify a source and at least one target"));
        };
        let value = source_value(replacement, resources)?;
        for target in targets {
            apply(&value, target, resources)?;
        }
    }
    Ok(())
}

fn source_value(replacement: &Replacement, resources: &Resources) -> Built<Node> {
    let source = match (&replacement.source, &replacement.source_value) {
        (Some(_), Some(_)) => {
            return Err(BuildError::told("value and resource selectors are mutually exclusive"));
        }
        (None, text) => return Ok(Node::open(text.clone().unwrap_or_default())),
        (Some(source), None) => source,
    };
    let owner = source_object(source, resources)?;
    let path = if source.field_path.is_empty() { DEFAULT_PATH } else { &source.field_path };
    let found = lookup::get(&owner.node, &lookup::split(path))
        .map_err(|error| error.doing("error looking up replacement source"))?;
    let Some(found) = found.filter(|node| !node.is_empty()) else {
        return Err(BuildError::told(format!(
            "fieldPath `{path}` is missing for replacement source {}",
            source.id
        )));
    };
    refined(source.options.as_ref(), found)
}

fn source_object<'a>(source: &Source, resources: &'a Resources) -> Built<&'a Resource> {
    let mut matching =
        resources.0.iter().filter(|one| ids(one).iter().any(|id| id.is_selected_by(&source.id)));
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(BuildError::told(format!("nothing selected by {}", shown(source)))),
        (Some(_), Some(_)) => {
            Err(BuildError::told(format!("multiple matches for selector {}", shown(source))))
        }
    }
}

/// What an object is and was called, as selectors compare it.
fn ids(resource: &Resource) -> Vec<super::ids::ResId> {
    let mut current = resource.id();
    current.gvk.is_cluster_scoped = false;
    let mut ids = vec![current];
    ids.extend(resource.previous_ids());
    ids
}

fn shown(source: &Source) -> String {
    let mut text = source.id.to_string();
    if !source.field_path.is_empty() {
        text.push_str(&format!(":{}", source.field_path));
    }
    if let Some(options) = source.options.as_ref().filter(|one| !one.delimiter.is_empty() || one.create) {
        text.push_str(&format!(":{}({}), create={}", options.delimiter, options.index, options.create));
    }
    text
}

const ONLY_SCALARS: &str = "delimiter option can only be used with scalar nodes";

/// The part of the value that the options ask for.
fn refined(options: Option<&FieldOptions>, value: &Node) -> Built<Node> {
    let Some(options) = options.filter(|options| !options.delimiter.is_empty()) else {
        return Ok(value.clone());
    };
    let Node::Scalar(scalar) = value else { return Err(BuildError::told(ONLY_SCALARS)) };
    let parts: Vec<&str> = value.value().split(options.delimiter.as_str()).collect();
    let part = usize::try_from(options.index).ok().and_then(|index| parts.get(index));
    match part {
        Some(part) => Ok(Node::Scalar(Scalar { text: (*part).to_string(), ..scalar.clone() })),
        None => Err(BuildError::told(format!(
            "options.index {} is out of bounds for value {}",
            options.index,
            value.value()
        ))),
    }
}

fn apply(value: &Node, target: &Target, resources: &mut Resources) -> Built<()> {
    let Some(select) = &target.select else {
        return Err(BuildError::told("target must specify resources to select"));
    };
    let creating = |error: BuildError| error.doing("error creating target selector");
    let select = select.matcher().map_err(creating)?;
    let rejects = target
        .reject
        .iter()
        .map(|reject| Ok((reject, reject.matcher().map_err(creating)?)))
        .collect::<Built<Vec<_>>>()?;
    for resource in &mut resources.0 {
        let ids = ids(resource);
        let is_rejected = rejects.iter().any(|(reject, matcher): &(_, Matcher)| {
            let by_marks = reject.has_terms() && matcher.admits_marks(resource);
            by_marks || !reject.id.is_empty() && ids.iter().any(|id| matcher.admits_id(id))
        });
        if is_rejected || !select.admits_marks(resource) || !ids.iter().any(|id| select.admits_id(id)) {
            continue;
        }
        copy(value, target, &mut resource.node)?;
    }
    Ok(())
}

fn copy(value: &Node, target: &Target, node: &mut Node) -> Built<()> {
    let default = [DEFAULT_PATH.to_string()];
    let paths = if target.field_paths.is_empty() { &default[..] } else { &target.field_paths[..] };
    for path in paths {
        let does_create = target.options.as_ref().is_some_and(|options| options.create);
        let create = does_create.then(|| value.kind());
        if in_text(value, path, create, node) {
            continue;
        }
        let missing = || {
            let verb = if does_create { "find or create" } else { "find" };
            format!("unable to {verb} field {path:?} in replacement target")
        };
        let set = |field: &mut Node| put(target.options.as_ref(), value, field);
        // Faults of the path are told with the path, faults of the value as they are.
        let mut fault = None;
        let found = lookup::each(node, &lookup::split(path), create, &mut |field| {
            if fault.is_none() {
                fault = set(field).err();
            }
            Ok(())
        })
        .map_err(|error| error.doing(missing()))?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        if found == 0 {
            return Err(BuildError::told(missing()));
        }
        let mut left = MAX_VALUES;
        if !fits(node, MAX_DEPTH, &mut left) {
            return Err(BuildError::told(format!(
                "a replacement makes an object of more than {MAX_VALUES} values or {MAX_DEPTH} levels"
            )));
        }
    }
    Ok(())
}

fn fits(node: &Node, depth: usize, left: &mut usize) -> bool {
    if *left == 0 || depth == 0 {
        return false;
    }
    *left -= 1;
    node.items().iter().all(|one| fits(one, depth - 1, left))
        && node.members().iter().all(|(_, one)| fits(one, depth - 1, left))
}

fn put(options: Option<&FieldOptions>, value: &Node, field: &mut Node) -> Built<()> {
    let mut value = value.clone();
    if let Some(options) = options.filter(|options| !options.delimiter.is_empty()) {
        if field.kind() != Kind::Scalar {
            return Err(BuildError::told(ONLY_SCALARS));
        }
        let new = value.value().to_string();
        let mut parts: Vec<&str> = field.text().split(options.delimiter.as_str()).collect();
        match usize::try_from(options.index) {
            Err(_) => parts.insert(0, &new),
            Ok(index) if index >= parts.len() => parts.push(&new),
            Ok(index) => parts[index] = &new,
        }
        let text = parts.join(&options.delimiter);
        if let Node::Scalar(scalar) = &mut value {
            scalar.text = text;
        }
    }
    match (field, value) {
        // The field keeps its type.
        (Node::Scalar(field), value) => field.text = value.text().to_string(),
        (field, value) => *field = value,
    }
    Ok(())
}

/// A path that goes on inside of a text, which is JSON or YAML itself.
fn in_text(value: &Node, path: &str, create: Option<Kind>, node: &mut Node) -> bool {
    let parts = lookup::split(path);
    if parts.len() < 2 {
        return false;
    }
    for length in 1..parts.len() {
        let Ok(Some(Node::Scalar(scalar))) = lookup::get(node, &parts[..length]) else { continue };
        let written = scalar.text.clone();
        let Ok(parsed) = parse::document(&written) else { continue };
        let Some(mut inner) = parsed else { return false };
        let found = lookup::each(&mut inner, &parts[length..], create, &mut |field| {
            match field {
                Node::Scalar(field) => field.text = value.text().to_string(),
                field => *field = value.clone(),
            }
            Ok(())
        });
        if !found.is_ok_and(|found| found > 0) {
            return false;
        }
        let Some(text) = rewritten(&inner, &written) else { return false };
        let replaced = lookup::each(node, &parts[..length], None, &mut |field| {
            if let Node::Scalar(field) = field {
                field.text.clone_from(&text);
            }
            Ok(())
        });
        return replaced.is_ok();
    }
    false
}

/// JSON stays JSON, indented if it was; other text becomes YAML.
fn rewritten(inner: &Node, written: &str) -> Option<String> {
    if !written.trim_start().starts_with(['{', '[']) {
        return Some(emit::emit(inner).trim().to_string());
    }
    let tree = inner.to_json().ok()?;
    if written.contains('\n') && written.contains("  ") {
        serde_json::to_string_pretty(&tree).ok()
    } else {
        serde_json::to_string(&tree).ok()
    }
}
