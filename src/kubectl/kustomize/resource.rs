//! An object on its way through a kustomization, and the list of them.
//!
//! Upstream notes what happened to an object in annotations that it takes off at the end. Here they are
//! members of a structure, so that a patch of annotations cannot lose them.

use std::collections::BTreeMap;

use super::error::{BuildError, Built};
use super::ids::{Gvk, ResId, split_api_version};
use super::merge::merge;
use super::node::{Kind, Node};
use super::origin::Origin;
use super::selector::Selector;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Behavior {
    #[default]
    Unspecified,
    Create,
    Replace,
    Merge,
}

impl Behavior {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "replace" => Behavior::Replace,
            "merge" => Behavior::Merge,
            "create" => Behavior::Create,
            _ => Behavior::Unspecified,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Behavior::Unspecified => "unspecified",
            Behavior::Create => "create",
            Behavior::Replace => "replace",
            Behavior::Merge => "merge",
        }
    }
}

/// What an object was called before.
#[derive(Clone, Debug)]
struct Previous {
    name: String,
    namespace: String,
    kind: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) node: Node,
    previous: Vec<Previous>,
    pub(crate) prefixes: Vec<String>,
    pub(crate) suffixes: Vec<String>,
    pub(crate) behavior: Behavior,
    pub(crate) needs_hash: bool,
    pub(crate) allows_name_change: bool,
    pub(crate) allows_kind_change: bool,
    pub(crate) origin: Option<Origin>,
    pub(crate) transformations: Vec<Origin>,
    /// Variables that take their value from here.
    pub(crate) variables: Vec<String>,
}

impl Resource {
    pub(crate) fn new(node: Node) -> Self {
        Resource {
            node,
            previous: Vec::new(),
            prefixes: Vec::new(),
            suffixes: Vec::new(),
            behavior: Behavior::default(),
            needs_hash: false,
            allows_name_change: false,
            allows_kind_change: false,
            origin: None,
            transformations: Vec::new(),
            variables: Vec::new(),
        }
    }

    pub(crate) fn gvk(&self) -> Gvk {
        Gvk::of(&self.node)
    }

    pub(crate) fn kind(&self) -> &str {
        self.node.get("kind").map_or("", Node::text)
    }

    pub(crate) fn name(&self) -> &str {
        self.node.at(&["metadata", "name"]).map_or("", Node::value)
    }

    pub(crate) fn namespace(&self) -> &str {
        self.node.at(&["metadata", "namespace"]).map_or("", Node::value)
    }

    pub(crate) fn id(&self) -> ResId {
        ResId::of(&self.node)
    }

    pub(crate) fn previous_ids(&self) -> Vec<ResId> {
        let (group, version) = split_api_version(self.node.get("apiVersion").map_or("", Node::text));
        let id = |previous: &Previous| ResId {
            gvk: Gvk {
                group: group.to_string(),
                version: version.to_string(),
                kind: previous.kind.clone(),
                is_cluster_scoped: false,
            },
            name: previous.name.clone(),
            namespace: previous.namespace.clone(),
        };
        self.previous.iter().map(id).collect()
    }

    /// What it was called at first.
    pub(crate) fn original_id(&self) -> ResId {
        self.previous_ids().into_iter().next().unwrap_or_else(|| self.id())
    }

    /// Every name that it has and had.
    pub(crate) fn all_ids(&self) -> Vec<ResId> {
        let mut ids = self.previous_ids();
        ids.push(self.id());
        ids
    }

    pub(crate) fn has_previous_name(&self, name: &str) -> bool {
        self.previous.iter().any(|previous| previous.name == name)
    }

    pub(crate) fn note_previous(&mut self) {
        let id = self.id();
        self.previous.push(Previous {
            namespace: id.effective_namespace().to_string(),
            name: id.name,
            kind: id.gvk.kind,
        });
    }

    pub(crate) fn set_kind(&mut self, kind: &str) -> Built<()> {
        self.node.set("kind", Node::open(kind))
    }

    fn set_meta(&mut self, name: &str, value: Node) -> Built<()> {
        match self.node.member_or("metadata", Kind::Map)? {
            Some(metadata) => metadata.set(name, value),
            None => Ok(()),
        }
    }

    pub(crate) fn set_name(&mut self, name: &str) -> Built<()> {
        self.set_meta("name", Node::open(name))
    }

    pub(crate) fn set_namespace(&mut self, namespace: &str) -> Built<()> {
        if namespace.is_empty() {
            if let Some(metadata) = self.node.get_mut("metadata") {
                metadata.remove("namespace");
            }
            return Ok(());
        }
        self.set_meta("namespace", Node::open(namespace))
    }

    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        texts(self.node.at(&["metadata", "labels"]))
    }

    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        texts(self.node.at(&["metadata", "annotations"]))
    }

    /// Replaces a map in the metadata by texts; an empty one is taken out.
    pub(crate) fn set_texts(&mut self, field: &str, texts: &BTreeMap<String, String>) -> Built<()> {
        let Some(metadata) = self.node.member_or("metadata", Kind::Map)? else { return Ok(()) };
        metadata.remove(field);
        if texts.is_empty() {
            return Ok(());
        }
        let mut map = Kind::Map.empty();
        for (key, value) in texts {
            map.set(key, Node::string(value))?;
        }
        metadata.set(field, map)
    }

    /// Takes name, labels and annotations of an object that this one replaces or is merged with.
    fn take_metadata_of(&mut self, old: &Resource) -> Built<()> {
        let mut labels = old.labels();
        labels.extend(self.labels());
        self.set_texts("labels", &labels)?;
        let mut annotations = old.annotations();
        annotations.extend(self.annotations());
        self.set_texts("annotations", &annotations)?;
        self.set_name(old.name())?;
        self.set_namespace(old.namespace())?;
        self.previous.clone_from(&old.previous);
        self.prefixes.clone_from(&old.prefixes);
        self.suffixes.clone_from(&old.suffixes);
        self.behavior = old.behavior;
        self.needs_hash &= old.needs_hash;
        self.variables.clone_from(&old.variables);
        Ok(())
    }

    fn merge_data_of(&mut self, old: &Resource, field: &str) -> Built<()> {
        let mut data = texts(old.node.get(field));
        data.extend(texts(self.node.get(field)));
        self.node.remove(field);
        if data.is_empty() {
            return Ok(());
        }
        let mut map = Kind::Map.empty();
        for (key, value) in data {
            map.set(&key, Node::string(value))?;
        }
        self.node.set(field, map)
    }

    /// Applies a strategic merge patch; false if nothing is left of the object.
    pub(crate) fn patch(&mut self, patch: &Resource) -> Built<bool> {
        let (kind, name) = (self.kind().to_string(), self.name().to_string());
        let namespace = self.namespace().to_string();
        if patch.allows_name_change || patch.allows_kind_change {
            self.note_previous();
        }
        match merge(&patch.node, &self.node)? {
            Some(node) if !node.is_empty() => self.node = node,
            _ => return Ok(false),
        }
        if !patch.allows_kind_change {
            self.set_kind(&kind)?;
        }
        if !patch.allows_name_change {
            self.set_name(&name)?;
        }
        self.set_namespace(&namespace)?;
        Ok(true)
    }
}

fn texts(node: Option<&Node>) -> BTreeMap<String, String> {
    let members = node.map(Node::members).unwrap_or_default();
    members.iter().map(|(key, value)| (key.text.clone(), value.text().to_string())).collect()
}

/// Objects in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resources(pub(crate) Vec<Resource>);

impl Resources {
    pub(crate) fn push(&mut self, resource: Resource) -> Built<()> {
        let id = resource.id();
        if self.0.iter().any(|one| one.id().same(&id)) {
            return Err(BuildError::told(format!(
                "may not add resource with an already registered id: {id}"
            )));
        }
        self.0.push(resource);
        Ok(())
    }

    pub(crate) fn extend(&mut self, others: Vec<Resource>) -> Built<()> {
        let mut known: std::collections::HashSet<String> = self.0.iter().map(identity).collect();
        for resource in others {
            if !known.insert(identity(&resource)) {
                let id = resource.id();
                return Err(BuildError::told(format!(
                    "may not add resource with an already registered id: {id}"
                )));
            }
            self.0.push(resource);
        }
        Ok(())
    }

    /// The places of those that have or had such an id.
    pub(crate) fn matching_any(&self, matches: impl Fn(&ResId) -> bool) -> Vec<usize> {
        let has = |(at, one): (usize, &Resource)| one.all_ids().iter().any(&matches).then_some(at);
        self.0.iter().enumerate().filter_map(has).collect()
    }

    /// The one object that a patch means.
    pub(crate) fn target_of(&self, id: &ResId) -> Built<usize> {
        match self.matching_any(|one| one.same(id))[..] {
            [one] => Ok(one),
            [] => Err(BuildError::told(format!(
                "no matches for Id {id}; failed to find unique target for patch {id}"
            ))),
            _ => Err(BuildError::told(format!(
                "multiple matches for Id {id}; failed to find unique target for patch {id}"
            ))),
        }
    }

    pub(crate) fn select(&self, selector: &Selector) -> Built<Vec<usize>> {
        let matcher = selector.matcher()?;
        let mut found = Vec::new();
        for (at, one) in self.0.iter().enumerate() {
            let (current, original) = (one.id(), one.original_id());
            let is_there = matcher.admits_namespace(original.effective_namespace())
                || matcher.admits_namespace(current.effective_namespace());
            let is_named = matcher.admits_name(&original.name) || matcher.admits_name(&current.name);
            if is_there && is_named && matcher.admits_gvk(&one.gvk()) && matcher.admits_marks(one) {
                found.push(at);
            }
        }
        Ok(found)
    }

    /// Adds what a generator made: as a new object, or into the one of that name.
    pub(crate) fn absorb(&mut self, mut made: Resource) -> Built<()> {
        let id = made.id();
        let shown = go_id(&id);
        match self.matching_any(|one| one.same(&id))[..] {
            [] if matches!(made.behavior, Behavior::Merge | Behavior::Replace) => {
                Err(BuildError::told(format!("id {shown} does not exist; cannot merge or replace")))
            }
            [] => self.push(made),
            [at] => {
                let old = &self.0[at];
                match made.behavior {
                    Behavior::Replace => made.take_metadata_of(old)?,
                    Behavior::Merge => {
                        let origin = old.origin.clone();
                        made.take_metadata_of(old)?;
                        made.merge_data_of(old, "data")?;
                        made.merge_data_of(old, "binaryData")?;
                        made.origin = origin.or(made.origin);
                    }
                    other => {
                        return Err(BuildError::told(format!(
                            "id {shown} exists; can not use behavior: '{}', behavior must be merge or replace",
                            other.name()
                        )));
                    }
                }
                self.0[at] = made;
                Ok(())
            }
            _ => Err(BuildError::told(format!("found multiple objects that could accept merge of {id}"))),
        }
    }

    /// Applies a patch to the objects at these places.
    pub(crate) fn patch(&mut self, places: &[usize], patch: &Resource) -> Built<()> {
        let mut result = Resources::default();
        for (at, mut resource) in std::mem::take(&mut self.0).into_iter().enumerate() {
            if places.contains(&at) {
                let mut fitted = patch.clone();
                fitted.set_texts("labels", &patch.labels())?;
                fitted.set_texts("annotations", &patch.annotations())?;
                fitted.node.set("apiVersion", Node::open(resource.gvk().api_version()))?;
                if !resource.patch(&fitted)? {
                    continue;
                }
            }
            if !resource.node.is_empty() {
                result.0.push(resource);
            }
        }
        self.extend(result.0)
    }
}

/// Equal for objects that cannot stand beside each other.
fn identity(resource: &Resource) -> String {
    let id = resource.id();
    format!("{}/{}/{}", id.gvk, id.name, id.effective_namespace())
}

/// As Go prints the structure.
fn go_id(id: &ResId) -> String {
    format!(
        "resid.ResId{{Gvk:resid.Gvk{{Group:{:?}, Version:{:?}, Kind:{:?}, isClusterScoped:{}}}, Name:{:?}, Namespace:{:?}}}",
        id.gvk.group, id.gvk.version, id.gvk.kind, id.gvk.is_cluster_scoped, id.name, id.namespace
    )
}
