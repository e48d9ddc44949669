//! The roles and bindings of one namespace, or of the cluster as a whole.
//!
//! Changes are pending until a decision looks at the scope. An object that has changed several times is
//! worked on once, in its last state. Changes are decoded before the lock is taken that decisions look up
//! under, and then take effect together, so that no decision sees a state that never was. The cost is that of
//! the objects changed, old and new.

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
use crate::cache::ObjectChange;
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
struct PendingChange {
    /// Whether the object came after changes were last taken in.
    is_new: bool,
    /// None if it is gone.
    object: Option<Arc<Object>>,
}

/// Changes that do not count yet.
#[derive(Default)]
struct Pending {
    changes: BTreeMap<Key, PendingChange>,
    /// Their part of [`Scope::pending_weight`].
    weight: usize,
}

/// A role's rules, or why there are none.
pub(super) type Rules = Result<Arc<[PolicyRule]>, Arc<str>>;

/// A user by name, or a group. Service accounts are users.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum SubjectKey {
    User(Arc<str>),
    Group(Arc<str>),
}

/// A binding, taken apart once.
struct Binding {
    name: Arc<str>,
    role: RoleName,
    subjects: Box<[SubjectKey]>,
}

impl Binding {
    fn new(name: &str, namespace: Option<&str>, role: &RoleRef, subjects: Option<&[Subject]>) -> Self {
        let who = |subject: &Subject| {
            Some(match subject.kind.as_str() {
                "User" => SubjectKey::User(Arc::from(&*subject.name)),
                "Group" => SubjectKey::Group(Arc::from(&*subject.name)),
                "ServiceAccount" => {
                    let namespace = subject.namespace.as_deref().or(namespace).unwrap_or("");
                    SubjectKey::User(Arc::from(format!("system:serviceaccount:{namespace}:{}", subject.name)))
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
pub(super) struct EffectivePolicy {
    users: Grants,
    groups: Grants,
    /// With what they aggregate.
    roles: HashMap<Arc<str>, Rules>,
}

impl EffectivePolicy {
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

    fn grants(&mut self, who: &SubjectKey) -> (&mut Grants, Arc<str>) {
        match who {
            SubjectKey::User(name) => (&mut self.users, name.clone()),
            SubjectKey::Group(name) => (&mut self.groups, name.clone()),
        }
    }

    fn give(&mut self, who: &SubjectKey, binding: &Arc<Binding>) {
        let (grants, name) = self.grants(who);
        let held = grants.entry(name).or_default();
        match held.binary_search_by(|other| other.name.cmp(&binding.name)) {
            // It is named twice.
            Ok(at) => held[at] = binding.clone(),
            Err(at) => held.insert(at, binding.clone()),
        }
    }

    fn take(&mut self, who: &SubjectKey, binding: &Binding) {
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

/// What the effective policy is made from.
#[derive(Default)]
struct Sources {
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
pub(super) struct Scope {
    /// None of the cluster's.
    namespace: Option<Arc<str>>,
    /// Bytes of the changes that do not count yet, and one for each. Not less before they do.
    pending_weight: AtomicUsize,
    pending: Mutex<Pending>,
    /// Locked by the thread that applies changes.
    sources: Mutex<Sources>,
    effective: RwLock<EffectivePolicy>,
    cost: CostCounters,
}

impl Scope {
    pub(super) fn of(namespace: &Arc<str>) -> Self {
        Scope { namespace: Some(namespace.clone()), ..Scope::default() }
    }

    pub(super) fn note(&self, key: Key, told: &ObjectChange<'_>) {
        let mut pending = self.pending.lock();
        let is_new = pending.changes.get(&key).map_or(told.is_new, |change| change.is_new);
        let object = told.object.cloned();
        if object.is_none() && is_new {
            // It came and went unseen: what nobody asks for must not gather.
            pending.changes.remove(&key);
            return;
        }
        let weight = 1 + object.as_ref().map_or(0, |object| object.stored_bytes().len());
        pending.changes.insert(key, PendingChange { is_new, object });
        pending.weight += weight;
        self.pending_weight.fetch_add(weight, Ordering::Release);
    }

    pub(super) fn is_current(&self) -> bool {
        self.pending_weight.load(Ordering::Acquire) == 0
    }

    /// Applies what has changed, or waits until another thread has. Large changes leave the reactor's
    /// threads.
    pub(super) fn catch_up(&self) {
        match self.pending_weight.load(Ordering::Acquire) {
            0 => {}
            small if small < HEAVY => self.apply_pending(),
            _ => heavy::blocking(|| self.apply_pending()),
        }
    }

    fn apply_pending(&self) {
        let mut sources = self.sources.lock();
        let Pending { changes, weight } = std::mem::take(&mut *self.pending.lock());
        if weight == 0 {
            return;
        }
        let decoded = self.decode(&mut sources, changes);
        // Freed once the lock is.
        let mut gone = Vec::new();
        let mut policy = self.effective.write();
        for (name, rules) in decoded.roles {
            match rules {
                Some(rules) => policy.roles.insert(name, rules),
                None => policy.roles.remove(&name),
            };
        }
        for (name, new) in decoded.bindings {
            let old = match &new {
                Some(new) => sources.bindings.insert(name, new.clone()),
                None => sources.bindings.remove(&name),
            };
            if let Some(old) = &old {
                self.cost.subjects.fetch_add(old.subjects.len(), Ordering::Relaxed);
                old.subjects.iter().for_each(|who| policy.take(who, old));
            }
            if let Some(new) = &new {
                self.cost.subjects.fetch_add(new.subjects.len(), Ordering::Relaxed);
                new.subjects.iter().for_each(|who| policy.give(who, new));
            }
            gone.push(old);
        }
        policy.shrink();
        self.pending_weight.fetch_sub(weight, Ordering::Release);
        drop(policy);
    }

    fn decode(&self, sources: &mut Sources, changes: BTreeMap<Key, PendingChange>) -> Decoded {
        let mut decoded = Decoded::default();
        let mut cluster_roles = BTreeSet::new();
        for (Key { kind, name }, PendingChange { object, .. }) in changes {
            self.cost.objects.fetch_add(1, Ordering::Relaxed);
            match (kind, object) {
                (Kind::Binding, object) => {
                    let binding = object.and_then(|object| self.binding(&name, &object)).map(Arc::new);
                    decoded.bindings.push((name, binding));
                }
                (Kind::Role, Some(object)) if self.namespace.is_none() => {
                    sources.roles.put(&name, typed::<ClusterRole>(&object).ok(), &mut cluster_roles);
                }
                (Kind::Role, Some(object)) => decoded.roles.push((name, Some(rules(&object)))),
                (Kind::Role, None) => {
                    sources.roles.remove(&name, &mut cluster_roles);
                    decoded.roles.push((name, None));
                }
            }
        }
        for name in cluster_roles {
            let rules = sources.roles.rules(&name).map(|(rules, roles)| {
                self.cost.roles.fetch_add(roles, Ordering::Relaxed);
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

    pub(super) fn effective(&self) -> RwLockReadGuard<'_, EffectivePolicy> {
        self.effective.read()
    }

    /// Whether there is nothing, and nothing waits or is being taken in.
    pub(super) fn is_empty(&self) -> bool {
        let Some(sources) = self.sources.try_lock() else { return false };
        let pending = self.pending.lock();
        pending.changes.is_empty() && sources.bindings.is_empty() && self.effective.read().is_empty()
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
struct CostCounters {
    /// Objects that had changed.
    objects: AtomicUsize,
    /// Subjects that were given or lost a binding.
    subjects: AtomicUsize,
    /// Roles that were looked at to tell the rules of cluster roles.
    roles: AtomicUsize,
}

#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) objects: usize,
    pub(super) subjects: usize,
    pub(super) roles: usize,
}

#[cfg(test)]
impl std::ops::Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost {
            objects: self.objects + other.objects,
            subjects: self.subjects + other.subjects,
            roles: self.roles + other.roles,
        }
    }
}

#[cfg(test)]
impl Scope {
    pub(super) fn cost(&self) -> Cost {
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Cost {
            objects: read(&self.cost.objects),
            subjects: read(&self.cost.subjects),
            roles: read(&self.cost.roles),
        }
    }

    /// How many changes wait.
    pub(super) fn pending_changes(&self) -> usize {
        self.pending.lock().changes.len()
    }

    /// Keeps everybody from taking changes in.
    pub(super) fn stall(&self) -> impl Drop + '_ {
        self.sources.lock()
    }
}
