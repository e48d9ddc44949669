//! What a decision looks up: the scope of the cluster, and one for each namespace that has roles or bindings.
//!
//! A change is noted in its scope when the caches take it in, and applied by the next decision there: first
//! of all by the write itself. So everything that could be read when a decision began counts for it. A
//! namespace's large bindings cost only decisions about that namespace, and nothing has to be computed
//! between the start of the server and its first decision.

use std::collections::HashMap;
use std::sync::Arc;

use api::kinds::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};
use api::{Identity, KindRow};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use parking_lot::RwLock;

use super::scope::{EffectivePolicy, Key, Kind, Scope};
use crate::cache::{Caches, ObjectChange};

/// What a grant gives.
pub(super) enum Found {
    Rules(Arc<[PolicyRule]>),
    /// Why there are no rules.
    Nothing(String),
}

impl Found {
    pub(super) fn rules(self) -> Option<Arc<[PolicyRule]>> {
        match self {
            Found::Rules(rules) => Some(rules),
            Found::Nothing(_) => None,
        }
    }
}

/// The role of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoleName {
    /// Whether it is a Role of the binding's namespace; else a ClusterRole.
    namespaced: bool,
    name: Arc<str>,
}

impl RoleName {
    pub(super) fn of(role: &RoleRef) -> Self {
        RoleName { namespaced: role.kind == "Role", name: Arc::from(&*role.name) }
    }

    /// Looks the role up.
    fn find(&self, cluster: &EffectivePolicy, own: Option<&EffectivePolicy>) -> Found {
        let scope = if self.namespaced { own } else { Some(cluster) };
        match scope.and_then(|scope| scope.role(&self.name)) {
            Some(Ok(rules)) => Found::Rules(rules.clone()),
            Some(Err(why)) => Found::Nothing(why.to_string()),
            None => {
                let row: &KindRow = if self.namespaced { &ROLE } else { &CLUSTER_ROLE };
                Found::Nothing(format!("{}.{} {:?} not found", row.singular, row.group, self.name))
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Index {
    cluster: Scope,
    namespaces: RwLock<HashMap<Arc<str>, Arc<Scope>>>,
}

impl Index {
    /// An index of the roles and bindings in the caches, now and later.
    pub(super) fn over(caches: &Caches) -> Arc<Self> {
        let index = Arc::new(Index::default());
        let kinds = [
            (&CLUSTER_ROLE, Kind::Role),
            (&ROLE, Kind::Role),
            (&CLUSTER_ROLE_BINDING, Kind::Binding),
            (&ROLE_BINDING, Kind::Binding),
        ];
        for (row, kind) in kinds {
            let follower = index.clone();
            caches.follow(row, Box::new(move |told| follower.note(kind, told)));
        }
        index
    }

    fn note(&self, kind: Kind, told: &ObjectChange<'_>) {
        let key = Key { kind, name: Arc::from(told.name) };
        let Some(namespace) = told.namespace else { return self.cluster.note(key, told) };
        // The lock is held while the change is noted, so that the scope is not removed meanwhile.
        if let Some(scope) = self.namespaces.read().get(namespace) {
            return scope.note(key, told);
        }
        let namespace: Arc<str> = Arc::from(namespace);
        let mut namespaces = self.namespaces.write();
        let scope =
            namespaces.entry(namespace).or_insert_with_key(|namespace| Arc::new(Scope::of(namespace)));
        scope.note(key, told);
    }

    /// What a user holds in a namespace: cluster-wide grants first, then the namespace's own.
    pub(super) fn grants(&self, user: &Identity, namespace: Option<&str>) -> Vec<Found> {
        self.look(namespace, |cluster, own| {
            let everywhere = cluster.roles_of(user);
            let here = own.into_iter().flat_map(|own| own.roles_of(user));
            everywhere.chain(here).map(|role| role.find(cluster, own)).collect()
        })
    }

    /// A role, a namespaced one of this namespace.
    pub(super) fn role(&self, role: &RoleRef, namespace: Option<&str>) -> Found {
        self.look(namespace, |cluster, own| RoleName::of(role).find(cluster, own))
    }

    /// Looks at the cluster and a namespace as they are at one moment, with everything taken in.
    fn look<T>(
        &self,
        namespace: Option<&str>,
        look: impl FnOnce(&EffectivePolicy, Option<&EffectivePolicy>) -> T,
    ) -> T {
        let own = namespace.and_then(|namespace| self.scope(namespace));
        loop {
            self.cluster.catch_up();
            if let Some(own) = &own {
                own.catch_up();
            }
            let cluster = self.cluster.effective();
            let held = own.as_ref().map(|own| own.effective());
            // Nothing is taken in while both are held. What came before that must be there: a role that has
            // been widened after a binding was taken away must not be seen with the binding.
            if self.cluster.is_current() && own.as_ref().is_none_or(|own| own.is_current()) {
                return look(&cluster, held.as_deref());
            }
        }
    }

    fn scope(&self, namespace: &str) -> Option<Arc<Scope>> {
        self.namespaces.read().get(namespace).cloned()
    }

    /// Takes in what has changed in a namespace, or in the cluster's own scope.
    pub(super) fn settle(&self, namespace: Option<&str>) {
        let Some(namespace) = namespace else { return self.cluster.catch_up() };
        let Some(scope) = self.scope(namespace) else { return };
        scope.catch_up();
        if scope.is_empty() {
            self.tidy(namespace);
        }
    }

    /// [`Index::settle`] everywhere.
    pub(super) fn sweep(&self) {
        self.cluster.catch_up();
        let names: Vec<Arc<str>> = self.namespaces.read().keys().cloned().collect();
        names.iter().for_each(|name| self.settle(Some(name)));
    }

    /// Forgets a namespace that has nothing any more.
    fn tidy(&self, namespace: &str) {
        let mut namespaces = self.namespaces.write();
        if namespaces.get(namespace).is_some_and(|scope| scope.is_empty()) {
            namespaces.remove(namespace);
        }
    }
}

#[cfg(test)]
impl Index {
    pub(super) fn namespaces(&self) -> usize {
        self.namespaces.read().len()
    }

    pub(super) fn at(&self, namespace: Option<&str>) -> Arc<Scope> {
        self.scope(namespace.unwrap()).unwrap()
    }

    /// The cost of all scopes.
    pub(super) fn cost(&self) -> super::scope::Cost {
        let namespaces = self.namespaces.read();
        let scopes = namespaces.values().map(|scope| &**scope).chain([&self.cluster]);
        scopes.map(|scope| scope.cost()).fold(Default::default(), |all, one| all + one)
    }
}
