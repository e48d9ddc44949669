//! What a request is, as webhooks and policies are told.

use api::{Identity, KindRow};
use serde_json::{Value, json};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gvk {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gvr {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
}

impl Gvk {
    pub(crate) fn of(row: &KindRow) -> Self {
        Gvk { group: row.group.to_string(), version: row.version.to_string(), kind: row.kind.to_string() }
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "group": self.group, "version": self.version, "kind": self.kind })
    }
}

impl Gvr {
    pub(crate) fn of(row: &KindRow) -> Self {
        let (group, version) = (row.group.to_string(), row.version.to_string());
        Gvr { group, version, resource: row.plural.to_string() }
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "group": self.group, "version": self.version, "resource": self.resource })
    }
}

/// A request, but for its objects.
pub(crate) struct Attributes<'a> {
    pub(crate) user: &'a Identity,
    pub(crate) operation: Operation,
    pub(crate) kind: Gvk,
    pub(crate) resource: Gvr,
    pub(crate) subresource: &'a str,
    /// Empty for objects without; of a namespace its name, unless it is being created.
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) dry_run: bool,
    pub(crate) options: Value,
}

impl Attributes<'_> {
    /// Whether this is about a namespace itself.
    pub(crate) fn is_namespace(&self) -> bool {
        self.resource.group.is_empty() && self.resource.resource == "namespaces"
    }

    /// The request as `AdmissionRequest` has it, in a version of its kind; without the objects.
    pub(crate) fn json(&self, uid: &str, kind: &Gvk, resource: &Gvr) -> Value {
        let mut request = json!({
            "uid": uid,
            "kind": kind.json(),
            "resource": resource.json(),
            "requestKind": self.kind.json(),
            "requestResource": self.resource.json(),
            "operation": self.operation.name(),
            "userInfo": self.user_info(),
            "dryRun": self.dry_run,
            "options": self.options,
        });
        for (member, value) in [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", self.name),
            ("namespace", self.namespace),
        ] {
            if !value.is_empty() {
                request[member] = json!(value);
            }
        }
        request
    }

    fn user_info(&self) -> Value {
        let user = self.user;
        let mut info = json!({ "username": user.name, "groups": user.groups });
        if !user.uid.is_empty() {
            info["uid"] = json!(user.uid);
        }
        if !user.extra.is_empty() {
            info["extra"] = json!(user.extra);
        }
        info
    }
}
