//! The one place where calls on an object and calls on its subresources are told apart.
//!
//! HTTP requests and callers in the process come here with a call, and neither knows a subresource by name:
//! what it is is a property of the resource. Connections lead out of the registry, to a node; whoever can
//! make them (`http::connect`) asks what they are, too.

use std::sync::Arc;

use api::{ApiError, CreateOptions, Object, PatchKind, UpdateOptions};
use serde_json::Value;

use super::subresource::Subresource;
use super::{Call, Registry, Source, not_allowed};

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
        if let Source::Patch(patch) = &source
            && patch.kind == PatchKind::Apply
        {
            return match call.about() {
                None | Some(Subresource::Part(_)) => self.apply(call, name, patch, options).await,
                Some(Subresource::Scale(paths)) => self.apply_scale(call, paths, name, patch, options).await,
                Some(Subresource::Action(_) | Subresource::Connection(_)) => Err(not_allowed()),
            };
        }
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
