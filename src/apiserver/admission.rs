//! Admission: what else a request must satisfy, and what is filled in for it.

use std::sync::Arc;

use api::{ApiError, Object};
use serde_json::Value;

use crate::Config;
use crate::cache::Caches;
use crate::registry::Context;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// A request on its way to the store.
pub struct Request<'a> {
    pub ctx: &'a Context<'a>,
    pub operation: Operation,
    /// Empty for a create with generateName whose name is not made yet, and for deletecollection.
    pub name: &'a str,
    /// The stored object, for updates and deletions.
    pub old: Option<&'a Object>,
}

/// The chain of plugins.
pub struct Admission {}

impl Admission {
    pub fn new(_config: &Config, _caches: Arc<Caches>) -> Self {
        Admission {}
    }

    /// Fills in and checks; `object` is the body, none for deletions.
    pub async fn mutate(&self, _request: &Request<'_>, _object: Option<&mut Value>) -> Result<(), ApiError> {
        Ok(())
    }

    /// Checks the final object, after validation.
    pub async fn validate(&self, _request: &Request<'_>, _object: Option<&Value>) -> Result<(), ApiError> {
        Ok(())
    }
}
