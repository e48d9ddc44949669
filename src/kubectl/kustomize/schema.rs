//! Which lists of the built-in kinds are merged by a key in a strategic merge patch.
//!
//! Facts of the OpenAPI document of Kubernetes 1.21 (Apache-2.0), which is the one that kustomize carries:
//! later kinds and fields have no merged lists here, as they have none upstream. In `merge_lists.txt` a type
//! stands with the kinds that it is, and below it its fields: name, type, and the keys of a list that is
//! merged (`=` if its values are compared themselves).

use std::collections::HashMap;
use std::sync::LazyLock;

use super::node::Node;

const FACTS: &str = include_str!("merge_lists.txt");

struct Fact {
    name: &'static str,
    ty: &'static str,
    keys: Option<Vec<&'static str>>,
}

struct Facts {
    /// By `apiVersion/kind`.
    kinds: HashMap<&'static str, &'static str>,
    types: HashMap<&'static str, Vec<Fact>>,
}

static TABLE: LazyLock<Facts> = LazyLock::new(|| {
    let mut facts = Facts { kinds: HashMap::new(), types: HashMap::new() };
    let mut current = "";
    for line in FACTS.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if line.starts_with(' ') {
            let ty = words.next().unwrap_or("-");
            let keys = words.next().map(|keys| match keys {
                "=" => Vec::new(),
                keys => keys.split(',').collect(),
            });
            facts.types.entry(current).or_default().push(Fact { name: first, ty, keys });
        } else {
            current = first;
            facts.types.entry(current).or_default();
            facts.kinds.extend(words.map(|kind| (kind, current)));
        }
    }
    facts
});

/// What is known of a value's type.
#[derive(Clone, Copy)]
pub(crate) struct Schema {
    ty: &'static str,
    keys: Option<&'static [&'static str]>,
}

impl Schema {
    /// By the kind that an object names.
    pub(crate) fn of(node: &Node) -> Option<Schema> {
        let text = |name: &str| node.get(name).map_or("", Node::value);
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version.is_empty() || kind.is_empty() {
            return None;
        }
        let ty = TABLE.kinds.get(format!("{api_version}/{kind}").as_str())?;
        Some(Schema { ty, keys: None })
    }

    pub(crate) fn field(self, name: &str) -> Option<Schema> {
        let fact = TABLE.types.get(self.ty)?.iter().find(|one| one.name == name)?;
        Some(Schema { ty: fact.ty, keys: fact.keys.as_deref() })
    }

    pub(crate) fn elements(self) -> Schema {
        Schema { ty: self.ty, keys: None }
    }

    /// The keys of a list that is merged.
    pub(crate) fn keys(self) -> Option<&'static [&'static str]> {
        self.keys
    }
}
