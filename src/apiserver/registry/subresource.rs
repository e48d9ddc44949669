//! What the subresources of a kind are.

use super::ScalePaths;

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

impl Part {
    /// The member of an object that it is.
    pub(super) fn member(self) -> &'static str {
        match self {
            Part::Status => "status",
            Part::Spec => "spec",
        }
    }
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
