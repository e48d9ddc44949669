//! Who owns whom, by uid, as informers tell it; and which objects are to be looked at after each change.
//!
//! Informers of different kinds are not ordered among each other, so a dependent may be seen before its
//! owner: the owner is then a *virtual* node, known only from references. An owner that goes while it has
//! dependents becomes virtual again, and is forgotten with its last dependent. Pure.

use std::collections::{HashMap, HashSet};

use api::{KindRow, Object, OwnerReference};

use super::{FOREGROUND, ORPHAN};

/// An object to look at, by uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// It may have to be deleted.
    Delete(String),
    /// Its dependents are to be orphaned.
    Orphan(String),
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) uid: String,
}

impl Identity {
    /// Where a reference of an object in `namespace` points.
    pub(super) fn of_owner(reference: &OwnerReference, namespace: Option<String>) -> Self {
        Identity {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            namespace,
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        }
    }

    /// Whether a reference from `namespace` points here. Versions of a kind are one.
    fn is_pointed_at(&self, reference: &OwnerReference, namespace: Option<&str>) -> bool {
        let group =
            |version: &str| version.split_once('/').map_or(String::new(), |(group, _)| group.to_string());
        let reachable = self.namespace.is_none() || self.namespace.as_deref() == namespace;
        reachable
            && self.kind == reference.kind
            && self.name == reference.name
            && group(&self.api_version) == group(&reference.api_version)
    }
}

/// An object as an informer shows it.
pub(super) struct Seen {
    identity: Identity,
    owners: Vec<OwnerReference>,
    terminating: bool,
    orphan: bool,
    foreground: bool,
}

impl Seen {
    pub(super) fn of(row: &KindRow, object: &Object) -> Self {
        let metadata = object.metadata();
        let has = |finalizer: &str| metadata.finalizers.iter().any(|one| one == finalizer);
        Seen {
            identity: Identity {
                api_version: row.api_version(),
                kind: row.kind.to_string(),
                namespace: metadata.namespace.clone(),
                name: metadata.name.clone(),
                uid: metadata.uid.clone(),
            },
            owners: metadata.owner_references.clone(),
            terminating: object.is_terminating(),
            orphan: has(ORPHAN),
            foreground: has(FOREGROUND),
        }
    }
}

struct Node {
    identity: Identity,
    is_virtual: bool,
    /// Virtual because it was seen to go, not because it has never been seen.
    was_removed: bool,
    owners: Vec<OwnerReference>,
    dependents: HashSet<String>,
    being_deleted: bool,
    /// Held back by `foregroundDeletion`.
    deleting_dependents: bool,
    orphaning: bool,
}

/// What the collector needs to know of a node.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) identity: Identity,
    pub(super) is_virtual: bool,
    pub(super) was_removed: bool,
    pub(super) being_deleted: bool,
    pub(super) deleting_dependents: bool,
    pub(super) has_dependents: bool,
    /// A dependent is itself waiting for its dependents.
    pub(super) dependents_wait: bool,
}

/// Invariant: `a` is a dependent of `b` exactly if `a` has a reference with `b`'s uid.
#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
}

impl Graph {
    /// An object was created or changed.
    pub(super) fn observe(&mut self, seen: Seen) -> Vec<Work> {
        let uid = seen.identity.uid.clone();
        let mut work = Vec::new();
        let (old_owners, was_orphaning, was_deleting) = match self.nodes.get_mut(&uid) {
            Some(node) => {
                let was_virtual = node.is_virtual;
                node.identity = seen.identity.clone();
                (node.is_virtual, node.was_removed) = (false, false);
                node.being_deleted = seen.terminating;
                let before = (std::mem::take(&mut node.owners), node.orphaning, node.deleting_dependents);
                if was_virtual {
                    work.extend(self.mistaken_dependents(&uid));
                }
                before
            }
            None => {
                let node = Node {
                    identity: seen.identity.clone(),
                    is_virtual: false,
                    was_removed: false,
                    owners: Vec::new(),
                    dependents: HashSet::new(),
                    being_deleted: seen.terminating,
                    deleting_dependents: false,
                    orphaning: false,
                };
                self.nodes.insert(uid.clone(), node);
                (Vec::new(), false, false)
            }
        };
        work.extend(self.link(&uid, &old_owners, &seen));
        let Some(node) = self.nodes.get_mut(&uid) else { return work };
        node.orphaning = seen.terminating && seen.orphan;
        node.deleting_dependents = seen.terminating && seen.foreground;
        if node.orphaning && !was_orphaning {
            work.push(Work::Orphan(uid.clone()));
        }
        if node.deleting_dependents && !was_deleting {
            work.extend(node.dependents.iter().cloned().map(Work::Delete));
            work.push(Work::Delete(uid));
        }
        work
    }

    /// Brings references up to date.
    fn link(&mut self, uid: &str, old: &[OwnerReference], seen: &Seen) -> Vec<Work> {
        let mut work = Vec::new();
        for gone in old.iter().filter(|one| !seen.owners.iter().any(|own| own.uid == one.uid)) {
            self.unlink(&gone.uid, uid);
            work.extend(self.owner_waits(&gone.uid));
        }
        for owner in &seen.owners {
            let before = old.iter().find(|one| one.uid == owner.uid);
            let blocked = before.is_some_and(|before| before.block_owner_deletion == Some(true));
            if blocked && owner.block_owner_deletion != Some(true) {
                work.extend(self.owner_waits(&owner.uid));
            }
            if before.is_some() {
                continue;
            }
            match self.nodes.get_mut(&owner.uid) {
                Some(node) => {
                    node.dependents.insert(uid.to_string());
                    let reached = node.identity.is_pointed_at(owner, seen.identity.namespace.as_deref());
                    if node.is_virtual {
                        // It may have been found absent before this dependent came.
                        work.push(Work::Delete(owner.uid.clone()));
                    } else if !reached || node.deleting_dependents {
                        work.push(Work::Delete(uid.to_string()));
                    }
                }
                None => {
                    let identity = Identity::of_owner(owner, seen.identity.namespace.clone());
                    self.nodes.insert(owner.uid.clone(), Node::unseen(identity, uid));
                    work.push(Work::Delete(owner.uid.clone()));
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(uid) {
            node.owners = seen.owners.clone();
        }
        work
    }

    /// Dependents whose references do not really point to the object that has this uid.
    fn mistaken_dependents(&self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        let mistaken = |dependent: &&String| {
            let Some(dependent) = self.nodes.get(*dependent) else { return false };
            let mut references = dependent.owners.iter().filter(|one| one.uid == uid);
            references.any(|one| !node.identity.is_pointed_at(one, dependent.identity.namespace.as_deref()))
        };
        node.dependents.iter().filter(mistaken).cloned().map(Work::Delete).collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(node) = self.nodes.get_mut(owner) {
            node.dependents.remove(dependent);
            if node.is_virtual && node.dependents.is_empty() {
                self.nodes.remove(owner);
            }
        }
    }

    /// An owner held back by its dependents may be free now.
    fn owner_waits(&self, owner: &str) -> Option<Work> {
        let waits = self.nodes.get(owner).is_some_and(|node| node.deleting_dependents);
        waits.then(|| Work::Delete(owner.to_string()))
    }

    /// An object is gone.
    pub(super) fn removed(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.get_mut(uid) else { return Vec::new() };
        let owners = std::mem::take(&mut node.owners);
        let mut work = self.absent(uid);
        if let Some(node) = self.nodes.get_mut(uid) {
            node.was_removed = true;
        }
        for owner in owners {
            self.unlink(&owner.uid, uid);
            work.extend(self.owner_waits(&owner.uid));
        }
        work
    }

    /// There is no object of this uid (any more): its dependents are to be looked at.
    pub(super) fn absent(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.get_mut(uid) else { return Vec::new() };
        let mut work: Vec<Work> = node.dependents.iter().cloned().map(Work::Delete).collect();
        if work.is_empty() {
            let owners = std::mem::take(&mut node.owners);
            self.nodes.remove(uid);
            for owner in owners {
                self.unlink(&owner.uid, uid);
                // No informer will tell of it any more: the node is forgotten here.
                work.extend(self.owner_waits(&owner.uid));
            }
        } else {
            (node.is_virtual, node.being_deleted) = (true, false);
            (node.deleting_dependents, node.orphaning) = (false, false);
        }
        work
    }

    pub(super) fn view(&self, uid: &str) -> Option<View> {
        let node = self.nodes.get(uid)?;
        let waits =
            |dependent: &String| self.nodes.get(dependent).is_some_and(|node| node.deleting_dependents);
        Some(View {
            identity: node.identity.clone(),
            is_virtual: node.is_virtual,
            was_removed: node.was_removed,
            being_deleted: node.being_deleted,
            deleting_dependents: node.deleting_dependents,
            has_dependents: !node.dependents.is_empty(),
            dependents_wait: node.dependents.iter().any(waits),
        })
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Identity> {
        let dependents = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        dependents
            .filter_map(|dependent| self.nodes.get(dependent))
            .map(|node| node.identity.clone())
            .collect()
    }

    /// Dependents that hold the owner back, and whether each waits for its own dependents.
    pub(super) fn blocking_dependents(&self, uid: &str) -> Vec<(String, bool)> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        let blocking = |dependent: &&String| {
            let owners = self.nodes.get(*dependent).map(|node| node.owners.as_slice()).unwrap_or_default();
            owners.iter().any(|one| one.uid == uid && one.block_owner_deletion == Some(true))
        };
        let waits =
            |dependent: &String| self.nodes.get(dependent).is_some_and(|node| node.deleting_dependents);
        node.dependents
            .iter()
            .filter(blocking)
            .map(|dependent| (dependent.clone(), waits(dependent)))
            .collect()
    }

    /// Checks the invariant.
    #[cfg(test)]
    pub(super) fn validate(&self) {
        for (uid, node) in &self.nodes {
            for owner in &node.owners {
                assert!(self.nodes[&owner.uid].dependents.contains(uid), "{uid} is unknown to its owner");
            }
            for dependent in &node.dependents {
                assert!(
                    self.nodes[dependent].owners.iter().any(|one| one.uid == *uid),
                    "{dependent} has no reference"
                );
            }
            assert!(!node.is_virtual || !node.dependents.is_empty(), "{uid} is virtual without dependents");
        }
    }
}

impl Node {
    /// Known only from a reference.
    fn unseen(identity: Identity, dependent: &str) -> Self {
        Node {
            identity,
            is_virtual: true,
            was_removed: false,
            owners: Vec::new(),
            dependents: HashSet::from([dependent.to_string()]),
            being_deleted: false,
            deleting_dependents: false,
            orphaning: false,
        }
    }
}

#[cfg(test)]
mod tests;
