//! What components of this process read from other API servers: the way of a request without a connection.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Identity};
use client::{BoxFuture, ExtensionApi};
use http::{Method, Request, StatusCode};
use serde_json::Value;

use super::paths::{Asked, authorize, check_available, of_path, unreached};
use super::set_caller;
use crate::outbound::Wanted::Whole;
use crate::outbound::{OutboundError, select};
use crate::registry::{Registry, unknown};

/// How long a server may take to answer, as for every request.
const LIMIT: Duration = Duration::from_secs(60);

/// [`ExtensionApi`] for one identity.
pub(crate) struct ExtensionReader {
    registry: Arc<Registry>,
    user: Identity,
}

impl ExtensionReader {
    pub(crate) fn new(registry: Arc<Registry>, user: Identity) -> Self {
        ExtensionReader { registry, user }
    }

    async fn document(&self, path_and_query: &str) -> Result<Value, ApiError> {
        let aggregation = &self.registry.aggregation;
        let whole_path = path_and_query.split('?').next().unwrap_or_default();
        let path = whole_path.trim_start_matches('/');
        let found = of_path(aggregation, &self.registry.resources.load(), path);
        let (remotes, at) = found.ok_or_else(unknown)?;
        let remote = &remotes[at];
        let asked = Asked { user: &self.user, method: &Method::GET, watches: false, path, whole_path };
        authorize(&self.registry.authorizer, &asked, remote)?;
        check_available(remote)?;
        let request = Request::builder().uri(remote.url(path_and_query)).header("accept", "application/json");
        let request = set_caller(request, &self.user);
        let read = |status: StatusCode, body: &[u8]| -> Result<_, OutboundError> {
            if !status.is_success() {
                return Ok(Err(client::https::error_from_response(status, body)));
            }
            select(body, Whole).map(Ok)
        };
        let trust = aggregation.trust(remote);
        aggregation.outbound.read(&trust, request, LIMIT, read).await.map_err(|error| unreached(&error))?
    }
}

impl ExtensionApi for ExtensionReader {
    fn versions(&self, group: &str) -> Vec<String> {
        let remotes = self.registry.aggregation.remotes();
        let served = remotes.iter().filter(|remote| remote.group == group && remote.is_available);
        served.map(|remote| remote.version.clone()).collect()
    }

    fn read<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Value, ApiError>> {
        Box::pin(self.document(path))
    }
}
