//! The objects in a file.

use super::error::{BuildError, Built};
use super::node::Node;
use super::parse;
use super::resource::Resource;

/// Objects that one file may hold, those of lists included.
const MAX_OBJECTS: usize = 100_000;

pub(crate) fn read(text: &str) -> Built<Vec<Resource>> {
    let mut documents = parse::documents(text)?;
    if let [only] = &documents[..]
        && matches!(only.get("kind").map_or("", Node::text), "List" | "ResourceList")
        && only.get("items").is_some()
    {
        documents = only.get("items").map(|items| items.items().to_vec()).unwrap_or_default();
    }
    let mut waiting = std::collections::VecDeque::from(checked(documents)?);
    let mut objects = Vec::new();
    let mut seen = 0;
    // Lists in lists are taken apart after what stands beside them, as upstream does it.
    while let Some(node) = waiting.pop_front() {
        seen += 1;
        if seen > MAX_OBJECTS {
            return Err(BuildError::told(format!("more than {MAX_OBJECTS} objects in one file")));
        }
        let kind = node.get("kind").map_or("", Node::text);
        let items = if kind.ends_with("List") { node.get("items") } else { None };
        match items {
            None => objects.push(Resource::new(node)),
            Some(Node::List(items)) => waiting.extend(checked(items.clone())?),
            Some(null) if null.is_null() => {}
            Some(Node::Map(_)) => {
                return Err(BuildError::told(format!(
                    "expected array in {kind}/items, but found map[string]interface {{}}"
                )));
            }
            Some(Node::Scalar(_)) => {
                return Err(BuildError::told(format!("expected array in {kind}/items, but found string")));
            }
        }
    }
    Ok(objects)
}

/// Leaves empty ones out and refuses what is no object.
fn checked(nodes: Vec<Node>) -> Built<Vec<Node>> {
    let mut good = Vec::new();
    for node in nodes.into_iter().filter(|node| !node.is_empty()) {
        let kind = node.get("kind").map_or("", Node::value);
        let name = node.at(&["metadata", "name"]).map_or("", Node::value);
        let lacks_all =
            ["apiVersion", "kind", "metadata"].iter().all(|field| node.get(field).is_none_or(Node::is_empty));
        if lacks_all {
            return Err(BuildError::told("missing Resource metadata"));
        }
        if kind.is_empty() {
            return Err(BuildError::told(format!("missing kind in object {}", described(&node))));
        }
        if name.is_empty() && !kind.ends_with("List") {
            return Err(BuildError::told(format!("missing metadata.name in object {}", described(&node))));
        }
        good.push(node);
    }
    Ok(good)
}

/// Version, kind and metadata as Go prints the structure.
fn described(node: &Node) -> String {
    let text = |name: &str| node.get(name).map_or("", Node::value);
    let meta = |name: &str| node.at(&["metadata", name]).map_or("", Node::value);
    let map = |name: &str| {
        let members = node.at(&["metadata", name]).map(Node::members).unwrap_or_default();
        let mut pairs: Vec<String> =
            members.iter().map(|(key, value)| format!("{}:{}", key.text, value.value())).collect();
        pairs.sort();
        format!("map[{}]", pairs.join(" "))
    };
    format!(
        "{{{{{} {}}} {{{{{} {}}} {} {}}}}}",
        text("apiVersion"),
        text("kind"),
        meta("name"),
        meta("namespace"),
        map("labels"),
        map("annotations")
    )
}
