//! What clusters, contexts and users of a kubeconfig have in common: each is an entry of a list, found by its
//! name.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Cluster, Context, Kubeconfig, NamedCluster, NamedContext, NamedUser, User};

/// An entry of one of the three lists.
pub trait Entry: Clone + Sized {
    /// What the entry says beside its name.
    type Content: Clone + Default + Serialize + DeserializeOwned;

    /// What messages call it.
    const KIND: &'static str;

    fn new(name: &str) -> Self;
    fn name(&self) -> &str;
    fn content(&mut self) -> &mut Self::Content;
    fn list(config: &Kubeconfig) -> &Vec<Self>;
    fn list_mut(config: &mut Kubeconfig) -> &mut Vec<Self>;

    fn is_in(config: &Kubeconfig, name: &str) -> bool {
        Self::list(config).iter().any(|one| one.name() == name)
    }
}

macro_rules! entry {
    ($named:ident, $content:ident, $field:ident, $list:ident, $kind:literal) => {
        impl Entry for $named {
            type Content = $content;
            const KIND: &'static str = $kind;

            fn new(name: &str) -> Self {
                $named { name: name.to_string(), $field: $content::default() }
            }

            fn name(&self) -> &str {
                &self.name
            }

            fn content(&mut self) -> &mut $content {
                &mut self.$field
            }

            fn list(config: &Kubeconfig) -> &Vec<Self> {
                &config.$list
            }

            fn list_mut(config: &mut Kubeconfig) -> &mut Vec<Self> {
                &mut config.$list
            }
        }
    };
}

entry!(NamedCluster, Cluster, cluster, clusters, "cluster");
entry!(NamedContext, Context, context, contexts, "context");
entry!(NamedUser, User, user, users, "user");

/// Takes over the entries that are not named yet.
pub(super) fn merge<E: Entry>(into: &mut Vec<E>, others: Vec<E>) {
    for other in others {
        if !into.iter().any(|one| one.name() == other.name()) {
            into.push(other);
        }
    }
}
