//! What the subresources of a kind are, and the one place where calls on them are told apart.
//!
//! HTTP requests and callers in the process come here with a call, and neither knows a subresource by name: what it is
//! hangs on the resource. Connections lead out of the registry, to a node; whoever can make them (`http::connect`) asks
//! what they are, too.

use std::sync::Arc;

use api::{ApiError, CreateOptions, KindRow, Object, UpdateOptions};
use serde_json::Value;

use super::{Call, Registry, ScalePaths, Source, not_allowed};

/// A subresource of a kind.
pub(crate) enum Subresource {
    /// A part of the object, read with it and written apart from the rest.
    Part(Part),
    /// Its replicas, as `autoscaling/v1` `Scale`.
    Scale(ScalePaths),
    /// Something that is posted and done.
    Action(Action),
    /// A way to the node that the object is on.
    Connection(Connection),
}

/// What a write of a part may change, beside metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Status,
    Spec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Assigns a pod to a node.
    Bind,
    /// Deletes a pod if nothing speaks against it.
    Evict,
    /// Issues a token for a service account.
    IssueToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    Log,
    Exec,
    Attach,
    PortForward,
    Proxy,
}

impl Subresource {
    /// What the subresource of a built-in kind is, by upstream's names.
    pub(super) fn built_in(name: &str) -> Self {
        match name {
            "status" | "approval" => Subresource::Part(Part::Status),
            "scale" => Subresource::Scale(ScalePaths::usual()),
            "binding" => Subresource::Action(Action::Bind),
            "eviction" => Subresource::Action(Action::Evict),
            "token" => Subresource::Action(Action::IssueToken),
            "log" => Subresource::Connection(Connection::Log),
            "exec" => Subresource::Connection(Connection::Exec),
            "attach" => Subresource::Connection(Connection::Attach),
            "portforward" => Subresource::Connection(Connection::PortForward),
            "proxy" => Subresource::Connection(Connection::Proxy),
            // `finalize`, `resize`, `ephemeralcontainers`: the strategy says which of the spec.
            _ => Subresource::Part(Part::Spec),
        }
    }
}

impl Call<'_> {
    /// What the call is about; none for the object itself.
    pub(crate) fn about(&self) -> Option<&Subresource> {
        self.subresource.and_then(|name| self.resource.subresource(name))
    }

    /// The part that the call writes, if it is one.
    pub(super) fn part(&self) -> Option<Part> {
        match self.about() {
            Some(Subresource::Part(part)) => Some(*part),
            _ => None,
        }
    }

    /// Refuses verbs that the resource or subresource does not have.
    pub(crate) fn check_verb(&self, verb: &str) -> Result<(), ApiError> {
        let row: &KindRow = self.row();
        let allowed = match self.subresource {
            None => row.allows(verb),
            Some(name) => {
                let known = row.subresource(name).ok_or_else(super::unknown)?;
                known.verbs.iter().any(|own| own == verb)
            }
        };
        if allowed { Ok(()) } else { Err(not_allowed()) }
    }
}

impl Registry {
    /// Reads an object or a part of it; waits for `version` if one is given.
    pub(crate) async fn read(
        &self,
        call: &Call<'_>,
        name: &str,
        version: Option<&str>,
    ) -> Result<Arc<Object>, ApiError> {
        call.check_verb("get")?;
        match call.about() {
            None | Some(Subresource::Part(_)) => self.get_at(call, name, version).await,
            Some(Subresource::Scale(paths)) => self.get_scale(call, paths, name, version).await,
            Some(Subresource::Action(_) | Subresource::Connection(_)) => Err(not_allowed()),
        }
    }

    /// Updates or patches an object or a part of it.
    pub(crate) async fn write(
        &self,
        call: &Call<'_>,
        name: &str,
        source: Source<'_>,
        options: &UpdateOptions,
    ) -> Result<Arc<Object>, ApiError> {
        call.check_verb(if matches!(source, Source::Patch(_)) { "patch" } else { "update" })?;
        match call.about() {
            None | Some(Subresource::Part(_)) => self.update(call, name, source, options).await,
            Some(Subresource::Scale(paths)) => self.update_scale(call, paths, name, source, options).await,
            Some(Subresource::Action(_) | Subresource::Connection(_)) => Err(not_allowed()),
        }
    }

    /// Posts to a subresource; answers with the body for the caller.
    pub(crate) async fn post(
        &self,
        call: &Call<'_>,
        name: &str,
        body: Value,
        duplicates: &[String],
        options: &CreateOptions,
    ) -> Result<Value, ApiError> {
        call.check_verb("create")?;
        match call.about() {
            Some(Subresource::Action(action)) => {
                self.act(call, *action, name, body, duplicates, options).await
            }
            _ => Err(not_allowed()),
        }
    }
}
