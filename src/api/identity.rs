//! Who makes a request: the outcome of authentication, and the fixed identities of our own components.
//!
//! In-process components are subjects like any other: they carry one of these and pass through authorization.

use std::collections::BTreeMap;

/// An authenticated user as upstream's `user.Info`: name, uid, groups and extra attributes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Identity {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

pub const GROUP_MASTERS: &str = "system:masters";
pub const GROUP_NODES: &str = "system:nodes";
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
pub const GROUP_UNAUTHENTICATED: &str = "system:unauthenticated";
pub const GROUP_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
pub const USER_ANONYMOUS: &str = "system:anonymous";
pub const USER_SCHEDULER: &str = "system:kube-scheduler";
pub const USER_CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
pub const USER_APISERVER: &str = "system:apiserver";

impl Identity {
    /// A user of the given name in `system:authenticated` and the given groups.
    pub fn user<const N: usize>(name: &str, groups: [&str; N]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| group.to_string()).collect();
        groups.push(GROUP_AUTHENTICATED.to_string());
        Identity { name: name.to_string(), groups, ..Identity::default() }
    }

    /// A node's kubelet: `system:node:NAME` in `system:nodes`.
    pub fn node(name: &str) -> Self {
        Self::user(&format!("system:node:{name}"), [GROUP_NODES])
    }

    /// A service account, with the groups upstream gives it (all accounts, and all of its namespace).
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("{GROUP_SERVICE_ACCOUNTS}:{namespace}");
        Self::user(
            &format!("system:serviceaccount:{namespace}:{name}"),
            [GROUP_SERVICE_ACCOUNTS, &of_namespace],
        )
    }

    /// A caller without credentials.
    pub fn anonymous() -> Self {
        Identity {
            name: USER_ANONYMOUS.to_string(),
            groups: vec![GROUP_UNAUTHENTICATED.to_string()],
            ..Identity::default()
        }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The node's name if this is a kubelet's identity (name `system:node:NAME` and in `system:nodes`).
    pub fn node_name(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|_| self.in_group(GROUP_NODES))
    }
}
