//! Whether other servers answer: each is asked for its list of resources, and its APIService's condition
//! `Available` says what came of it.
//!
//! They are asked again when an APIService or an endpoint has changed, and otherwise now and then, sooner
//! where one does not answer. While there are none, nothing is done.

use std::sync::Arc;
use std::time::Duration;

use api::json::items;
use api::kinds::{API_SERVICE, ENDPOINT_SLICE, SERVICE};
use api::{ApiError, Identity, UpdateOptions};
use client::{ApiFor, ObjectApi, ObjectRef};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;

use super::described::{self, Described, TooLarge};
use super::{Remote, set_caller};
use crate::bootstrap::identity;
use crate::cache::{Filter, Start, Watcher};
use crate::outbound::Wanted::{Members, Whole};
use crate::outbound::{OutboundError, Unresolved, addresses, select};
use crate::registry::time;
use crate::server::ApiServer;

/// How long a server may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// How often servers that answer are asked.
const OFTEN: Duration = Duration::from_secs(30);
/// How soon those are asked again that do not.
const SOON: Duration = Duration::from_secs(2);

/// What is found of a server.
struct Found {
    available: bool,
    reason: &'static str,
    message: String,
}

/// Goes on until the server stops.
pub(crate) async fn follow(server: Arc<ApiServer>) {
    let api = server.as_user(identity());
    loop {
        // Before the look: what changes meanwhile is not missed.
        let changes = [&API_SERVICE, &ENDPOINT_SLICE, &SERVICE].map(|row| changed(&server, row));
        let remotes = server.registry.aggregation.remotes();
        server.registry.aggregation.forget_others(&remotes);
        let looked = join_all(remotes.iter().map(|remote| look(&server, remote))).await;
        let mut pause = OFTEN;
        for (remote, found) in remotes.iter().zip(looked) {
            if !found.available {
                pause = SOON;
            }
            match tell(&api, remote, &found).await {
                Err(error) if !error.is_not_found() => {
                    tracing::debug!(%error, service = remote.name, "the condition is not told yet");
                    pause = SOON;
                }
                _ => {}
            }
        }
        let [services, endpoints, of_cluster] = &changes;
        if remotes.is_empty() {
            wait(services.as_ref()).await;
            continue;
        }
        // Endpoints change often where much goes on: not sooner than it makes sense to ask again.
        let others = async {
            tokio::select! {
                () = wait(endpoints.as_ref()) => {}
                () = wait(of_cluster.as_ref()) => {}
            }
            sleep(SOON / 4).await;
        };
        tokio::select! {
            () = wait(services.as_ref()) => {}
            () = others => {}
            () = sleep(pause) => {}
        }
    }
}

fn changed(server: &ApiServer, row: &api::KindRow) -> Option<Watcher> {
    let cache = server.registry.caches.kind(row)?;
    cache.watch(Filter::everything(cache.selectable().clone()), Start::Now).ok()
}

async fn wait(watcher: Option<&Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

async fn look(server: &ApiServer, remote: &Remote) -> Found {
    let (name, namespace) = (&remote.service, &remote.namespace);
    let not = |reason: &'static str, message: String| Found { available: false, reason, message };
    match addresses(&*server.registry.caches, namespace, name, remote.port) {
        Ok(_) => {}
        Err(Unresolved::Service(_)) => {
            return not("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"));
        }
        Err(Unresolved::Port { port, .. }) => {
            let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
            return not("ServicePortError", message);
        }
        Err(Unresolved::Endpoints(_)) => {
            let message = format!("endpointslices for service/{name} in {namespace:?} have no addresses");
            return not("MissingEndpoints", message);
        }
    }
    match describe(server, remote).await {
        Ok(described) => {
            let mut message = "all checks passed".to_string();
            // It can be used, by those who know what it has.
            if let Err(why) = &described {
                tracing::warn!(service = remote.name, "not part of discovery: {why}");
                message = format!("{message}, but it is not part of discovery: {why}");
            }
            server.registry.aggregation.describe(&remote.name, described.ok());
            Found { available: true, reason: "Passed", message }
        }
        Err(why) => {
            let url = remote.url(&format!("/apis/{}/{}", remote.group, remote.version));
            not("FailedDiscoveryCheck", format!("failing or missing response from {url}: {why}"))
        }
    }
}

async fn describe(server: &ApiServer, remote: &Remote) -> Result<Result<Described, TooLarge>, OutboundError> {
    let aggregation = &server.registry.aggregation;
    let trust = aggregation.trust(remote);
    let caller = Identity::user("system:kube-aggregator", [api::identity::GROUP_MASTERS]);
    let ask = |path: &str| {
        let request = http::Request::builder().uri(remote.url(path)).header("accept", "application/json");
        set_caller(request, &caller)
    };
    let own = format!("apis/{}/{}", remote.group, remote.version);
    let read = |body: &[u8]| -> Result<_, OutboundError> {
        let list = select(body, Members(&[("resources", Whole)]))?;
        Ok(described::version(&remote.group, &remote.version, &list))
    };
    let version = aggregation.outbound.get(&trust, ask(&format!("/{own}")), LIMIT, read).await?;
    // A server need not have these documents.
    let entry = [(&*own, Members(&[("serverRelativeURL", Whole)]))];
    let read =
        |body: &[u8]| -> Result<_, OutboundError> { select(body, Members(&[("paths", Members(&entry))])) };
    let index = aggregation.outbound.get(&trust, ask("/openapi/v3"), LIMIT, read).await.unwrap_or_default();
    let url = index["paths"][&own]["serverRelativeURL"].as_str().unwrap_or_default();
    let hash = url.split_once("hash=").map(|(_, hash)| hash.to_string());
    Ok(version.map(|version| Described { version, openapi: hash.filter(|_| !url.is_empty()) }))
}

async fn tell(api: &Arc<dyn ObjectApi>, remote: &Remote, found: &Found) -> Result<(), ApiError> {
    let at = ObjectRef::new(None, &remote.name);
    let mut tree = api.get(&API_SERVICE, at).await?.tree().map_err(ApiError::internal)?;
    let mut conditions = items(&tree, "status.conditions").to_vec();
    let status = if found.available { "True" } else { "False" };
    let old = conditions.iter().position(|one| one["type"] == "Available");
    let since = match old {
        Some(at) if conditions[at]["status"] == status => conditions[at]["lastTransitionTime"].clone(),
        _ => json!(time(Timestamp::now())),
    };
    let new = json!({
        "type": "Available", "status": status, "lastTransitionTime": since,
        "reason": found.reason, "message": found.message,
    });
    match old {
        Some(at) if conditions[at] == new => return Ok(()),
        Some(at) => conditions[at] = new,
        None => conditions.push(new),
    }
    tree["status"]["conditions"] = json!(conditions);
    api.update(&API_SERVICE, at.sub("status"), tree, &UpdateOptions::default()).await.map(drop)
}
