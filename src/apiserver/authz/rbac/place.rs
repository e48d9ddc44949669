//! The roles and bindings of one namespace, or of the cluster as a whole.
//!
//! Changes wait in a place until somebody looks there; of an object that has changed several times only the
//! last state is worked on. They are decoded before the lock is taken that decisions look up under, and then
//! take effect together, so that nobody sees a state that never was. The work is that of the objects changed,
//! old and new.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::{Identity, Kinded, Object, ObjectError};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::index::RoleName;
use super::roles::ClusterRoles;
use crate::cache::Told;
use crate::heavy::{self, HEAVY};

/// Roles are taken in before bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Role,
    Binding,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
}

/// The last state of an object that has changed.
struct Change {
    /// Whether the object came after changes were last taken in.
    is_new: bool,
    /// None if it is gone.
    object: Option<Arc<Object>>,
}

/// Changes that do not count yet.
#[derive(Default)]
struct Waiting {
    changes: BTreeMap<Key, Change>,
    /// Their part of [`Place::behind`].
    weight: usize,
}

/// A role's rules, or why there are none.
pub(super) type Rules = Result<Arc<[PolicyRule]>, Arc<str>>;

/// A user by name, or a group. Service accounts are users.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    User(Arc<str>),
    Group(Arc<str>),
}

/// A binding, taken apart once.
struct Binding {
    name: Arc<str>,
    role: RoleName,
    subjects: Box<[Who]>,
}

impl Binding {
    fn new(name: &str, namespace: Option<&str>, role: &RoleRef, subjects: Option<&[Subject]>) -> Self {
        let who = |subject: &Subject| {
            Some(match subject.kind.as_str() {
                "User" => Who::User(Arc::from(&*subject.name)),
                "Group" => Who::Group(Arc::from(&*subject.name)),
                "ServiceAccount" => {
                    let namespace = subject.namespace.as_deref().or(namespace).unwrap_or("");
                    Who::User(Arc::from(format!("system:serviceaccount:{namespace}:{}", subject.name)))
                }
                _ => return None,
            })
        };
        let subjects = subjects.unwrap_or(&[]).iter().filter_map(who).collect();
        Binding { name: Arc::from(name), role: RoleName::of(role), subjects }
    }
}

/// The bindings of each subject, by the bindings' names.
type Grants = HashMap<Arc<str>, Vec<Arc<Binding>>>;

/// What decisions look up.
#[derive(Default)]
pub(super) struct Held {
    users: Grants,
    groups: Grants,
    /// With what they aggregate.
    roles: HashMap<Arc<str>, Rules>,
}

impl Held {
    /// The roles that a user is bound to here.
    pub(super) fn roles_of(&self, user: &Identity) -> impl Iterator<Item = &RoleName> {
        let by_group = user.groups.iter().filter_map(|group| self.groups.get(&**group));
        let bindings = self.users.get(&*user.name).into_iter().chain(by_group).flatten();
        bindings.map(|binding| &binding.role)
    }

    pub(super) fn role(&self, name: &str) -> Option<&Rules> {
        self.roles.get(name)
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty() && self.roles.is_empty()
    }

    /// Gives back room once most of what there was is gone.
    fn shrink(&mut self) {
        for grants in [&mut self.users, &mut self.groups] {
            if grants.capacity() / 8 > grants.len() {
                grants.shrink_to_fit();
            }
        }
    }

    fn grants(&mut self, who: &Who) -> (&mut Grants, Arc<str>) {
        match who {
            Who::User(name) => (&mut self.users, name.clone()),
            Who::Group(name) => (&mut self.groups, name.clone()),
        }
    }

    fn give(&mut self, who: &Who, binding: &Arc<Binding>) {
        let (grants, name) = self.grants(who);
        let held = grants.entry(name).or_default();
        match held.binary_search_by(|other| other.name.cmp(&binding.name)) {
            // It is named twice.
            Ok(at) => held[at] = binding.clone(),
            Err(at) => held.insert(at, binding.clone()),
        }
    }

    fn take(&mut self, who: &Who, binding: &Binding) {
        let (grants, name) = self.grants(who);
        let Some(held) = grants.get_mut(&name) else { return };
        if let Ok(at) = held.binary_search_by(|other| other.name.cmp(&binding.name)) {
            held.remove(at);
        }
        if held.is_empty() {
            grants.remove(&name);
        }
    }
}

/// What whoever takes changes in needs to know.
#[derive(Default)]
struct Known {
    bindings: HashMap<Arc<str>, Arc<Binding>>,
    /// Empty for namespaces.
    roles: ClusterRoles,
}

/// Changes that have been decoded.
#[derive(Default)]
struct Decoded {
    roles: Vec<(Arc<str>, Option<Rules>)>,
    bindings: Vec<(Arc<str>, Option<Arc<Binding>>)>,
}

#[derive(Default)]
pub(super) struct Place {
    /// None of the cluster's.
    namespace: Option<Arc<str>>,
    /// Bytes of the changes that do not count yet, and one for each. Not less before they do.
    behind: AtomicUsize,
    waiting: Mutex<Waiting>,
    /// Held by the one who takes changes in.
    known: Mutex<Known>,
    held: RwLock<Held>,
    done: Counters,
}

impl Place {
    pub(super) fn of(namespace: &Arc<str>) -> Self {
        Place { namespace: Some(namespace.clone()), ..Place::default() }
    }

    pub(super) fn note(&self, key: Key, told: &Told<'_>) {
        let mut waiting = self.waiting.lock();
        let is_new = waiting.changes.get(&key).map_or(told.is_new, |change| change.is_new);
        let object = told.object.cloned();
        if object.is_none() && is_new {
            // It came and went unseen: what nobody asks for must not gather.
            waiting.changes.remove(&key);
            return;
        }
        let weight = 1 + object.as_ref().map_or(0, |object| object.stored_bytes().len());
        waiting.changes.insert(key, Change { is_new, object });
        waiting.weight += weight;
        self.behind.fetch_add(weight, Ordering::Release);
    }

    pub(super) fn is_current(&self) -> bool {
        self.behind.load(Ordering::Acquire) == 0
    }

    /// Takes in what has changed, or waits until another has. What is large leaves the reactor's threads.
    pub(super) fn catch_up(&self) {
        match self.behind.load(Ordering::Acquire) {
            0 => {}
            small if small < HEAVY => self.take_in(),
            _ => heavy::blocking(|| self.take_in()),
        }
    }

    fn take_in(&self) {
        let mut known = self.known.lock();
        let Waiting { changes, weight } = std::mem::take(&mut *self.waiting.lock());
        if weight == 0 {
            return;
        }
        let decoded = self.decode(&mut known, changes);
        // Freed once the lock is.
        let mut gone = Vec::new();
        let mut held = self.held.write();
        for (name, rules) in decoded.roles {
            match rules {
                Some(rules) => held.roles.insert(name, rules),
                None => held.roles.remove(&name),
            };
        }
        for (name, new) in decoded.bindings {
            let old = match &new {
                Some(new) => known.bindings.insert(name, new.clone()),
                None => known.bindings.remove(&name),
            };
            if let Some(old) = &old {
                self.done.subjects.fetch_add(old.subjects.len(), Ordering::Relaxed);
                old.subjects.iter().for_each(|who| held.take(who, old));
            }
            if let Some(new) = &new {
                self.done.subjects.fetch_add(new.subjects.len(), Ordering::Relaxed);
                new.subjects.iter().for_each(|who| held.give(who, new));
            }
            gone.push(old);
        }
        held.shrink();
        self.behind.fetch_sub(weight, Ordering::Release);
        drop(held);
    }

    fn decode(&self, known: &mut Known, changes: BTreeMap<Key, Change>) -> Decoded {
        let mut decoded = Decoded::default();
        let mut cluster_roles = BTreeSet::new();
        for (Key { kind, name }, Change { object, .. }) in changes {
            self.done.objects.fetch_add(1, Ordering::Relaxed);
            match (kind, object) {
                (Kind::Binding, object) => {
                    let binding = object.and_then(|object| self.binding(&name, &object)).map(Arc::new);
                    decoded.bindings.push((name, binding));
                }
                (Kind::Role, Some(object)) if self.namespace.is_none() => {
                    known.roles.put(&name, typed::<ClusterRole>(&object).ok(), &mut cluster_roles);
                }
                (Kind::Role, Some(object)) => decoded.roles.push((name, Some(rules(&object)))),
                (Kind::Role, None) => {
                    known.roles.remove(&name, &mut cluster_roles);
                    decoded.roles.push((name, None));
                }
            }
        }
        for name in cluster_roles {
            let rules = known.roles.rules(&name).map(|(rules, roles)| {
                self.done.roles.fetch_add(roles, Ordering::Relaxed);
                Ok(rules)
            });
            decoded.roles.push((name, rules));
        }
        decoded
    }

    fn binding(&self, name: &str, object: &Object) -> Option<Binding> {
        let namespace = self.namespace.as_deref();
        if namespace.is_some() {
            let RoleBinding { role_ref, subjects, .. } = typed(object).ok()?;
            return Some(Binding::new(name, namespace, &role_ref, subjects.as_deref()));
        }
        let ClusterRoleBinding { role_ref, subjects, .. } = typed(object).ok()?;
        Some(Binding::new(name, None, &role_ref, subjects.as_deref()))
    }

    pub(super) fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read()
    }

    /// Whether there is nothing, and nothing waits or is being taken in.
    pub(super) fn is_empty(&self) -> bool {
        let Some(known) = self.known.try_lock() else { return false };
        let waiting = self.waiting.lock();
        waiting.changes.is_empty() && known.bindings.is_empty() && self.held.read().is_empty()
    }
}

fn rules(object: &Object) -> Rules {
    match typed::<Role>(object) {
        Ok(role) => Ok(role.rules.unwrap_or_default().into()),
        Err(error) => Err(Arc::from(error.to_string())),
    }
}

/// Others rarely ask for the typed form, and it takes several times the memory of the object.
fn typed<K: Kinded + Clone>(object: &Object) -> Result<K, ObjectError> {
    let was_kept = object.has_typed();
    let typed = object.typed::<K>();
    if !was_kept {
        object.forget_typed();
    }
    typed.map(Arc::unwrap_or_clone)
}

/// What taking changes in has cost so far.
#[derive(Default)]
struct Counters {
    /// Objects that had changed.
    objects: AtomicUsize,
    /// Subjects that were given or lost a binding.
    subjects: AtomicUsize,
    /// Roles that were looked at to tell the rules of cluster roles.
    roles: AtomicUsize,
}

#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) objects: usize,
    pub(super) subjects: usize,
    pub(super) roles: usize,
}

#[cfg(test)]
impl std::ops::Add for Work {
    type Output = Work;

    fn add(self, other: Work) -> Work {
        Work {
            objects: self.objects + other.objects,
            subjects: self.subjects + other.subjects,
            roles: self.roles + other.roles,
        }
    }
}

#[cfg(test)]
impl Place {
    pub(super) fn work(&self) -> Work {
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Work {
            objects: read(&self.done.objects),
            subjects: read(&self.done.subjects),
            roles: read(&self.done.roles),
        }
    }

    /// How many changes wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().changes.len()
    }

    /// Keeps everybody from taking changes in.
    pub(super) fn stall(&self) -> impl Drop + '_ {
        self.known.lock()
    }
}
