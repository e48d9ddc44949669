//! A request without its body, with what is known of it once it has been taken in.

use std::sync::Arc;

use api::{ApiError, Identity};
use http::Method;
use http::request::Parts;

use super::negotiate::Accepted;
use super::peer::Peer;
use super::query::Query;
use crate::audit::Trail;

/// How a client wants its answer.
pub(crate) struct Preferences {
    /// None if nothing that it accepts can be given.
    pub(crate) accepted: Option<Accepted>,
    /// Indented.
    pub(crate) pretty: bool,
}

/// A request without its body.
pub(crate) struct Head<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) path: &'a str,
    pub(crate) query: Query,
    pub(crate) user: Arc<Identity>,
    pub(crate) peer: &'a Arc<Peer>,
    pub(crate) preferences: &'a Preferences,
    /// What is told of the request; none if nothing is.
    pub(crate) trail: Option<Arc<Trail>>,
}

impl Head<'_> {
    /// Notes how authorization has decided.
    pub(super) fn decided<T>(&self, outcome: &Result<T, ApiError>) {
        if let Some(trail) = &self.trail {
            trail.decided(outcome.is_ok());
        }
    }

    pub(crate) fn header(&self, name: http::HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    pub(crate) fn reads(&self) -> bool {
        matches!(self.parts.method, Method::GET | Method::HEAD)
    }
}
