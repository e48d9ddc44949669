//! Connections that stop being HTTP: `exec`, `attach`, `portforward` and upgrades through the proxies.
//!
//! The client's upgrade is handed on as it came, whatever protocol it names (SPDY, WebSocket); if the other
//! end switches, both connections are joined until one of them ends. Nothing in between is looked at. A
//! tunnel keeps the place of the connection and the seat of the request that it was, and ends with the port
//! and with the client's certificate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use api::ApiError;
use api::kinds::NODE;
use axum::body::Body;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use supervisor::OnExit;
use tokio::io::AsyncWriteExt;

use super::super::head::Head;
use super::super::query::encoded;
use super::super::reply::SeatKeeper;
use super::super::{answer, log, peer::Peer};
use super::{Answered, Destination, Unanswered, ask, headers};
use crate::registry::{Call, Connection};
use crate::server::ApiServer;

/// A certificate's end is looked at this often: clocks are set.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// How long a client may take to hear that its tunnel is over.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the client wants to switch to, and its end of the connection once it has.
pub(in super::super) struct Wanted {
    protocol: HeaderValue,
    pub(super) client: OnUpgrade,
}

impl Wanted {
    #[cfg(test)]
    pub(super) fn of(protocol: &'static str, client: OnUpgrade) -> Self {
        Wanted { protocol: HeaderValue::from_static(protocol), client }
    }

    /// Whether what the other end switches to is among what the client asks for.
    pub(in super::super) fn offers(&self, switch: &HeaderMap) -> bool {
        let Some(chosen) = switch.get(UPGRADE) else { return true };
        let offered = self.protocol.as_bytes().split(|byte| *byte == b',');
        offered.into_iter().any(|one| one.trim_ascii().eq_ignore_ascii_case(chosen.as_bytes().trim_ascii()))
    }
}

/// The upgrade that a request asks for.
pub(in super::super) fn wanted(head: &Head<'_>) -> Option<Wanted> {
    let protocol = head.parts.headers.get(UPGRADE)?.clone();
    Some(Wanted { protocol, client: head.parts.extensions.get::<OnUpgrade>()?.clone() })
}

/// `pods/exec`, `attach`, `portforward`: the node's kubelet is at the other end.
pub(in super::super) async fn to_pod(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    call: &Call<'_>,
    connection: Connection,
    name: &str,
) -> Result<Response<Body>, ApiError> {
    // Leave to read is no leave to run commands, and a WebSocket is asked for with GET, a reading verb.
    if head.reads() {
        server.registry.authorize(call, "create", Some(name), None)?;
    }
    let whole = Call::new(&call.resource, call.namespace, call.user);
    let object = server.registry.get(&whole, name).await?;
    let pod = object.typed::<Pod>().map_err(ApiError::internal)?;
    let (namespace, query) = (call.namespace.unwrap_or(""), &head.query);
    let (path, query) = match connection {
        Connection::PortForward => {
            (format!("/portForward/{namespace}/{name}"), parameters(query, &[("ports", "port")]))
        }
        _ => {
            let verb = if connection == Connection::Attach { "attach" } else { "exec" };
            let container = log::container(&pod, name, query.get("container"))?;
            let flags = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
            let mut parts: Vec<String> = flags
                .into_iter()
                .filter(|(given, _)| query.flag(given))
                .map(|(_, kubelets)| format!("{kubelets}=1"))
                .collect();
            parts.extend(query.all("command").iter().map(|word| format!("command={}", encoded(word))));
            (format!("/{verb}/{namespace}/{name}/{container}"), parts.join("&"))
        }
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("");
    if node.is_empty() {
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let node =
        server.registry.caches.get(&NODE, None, node).ok_or_else(|| ApiError::not_found(&NODE, node))?;
    let Some(wanted) = wanted(head) else { return Err(ApiError::bad_request("Upgrade request required")) };
    let uri = if query.is_empty() { path } else { format!("{path}?{query}") };
    let mut request = Request::new(Body::empty());
    *request.method_mut() = head.parts.method.clone();
    *request.uri_mut() = uri.parse().map_err(ApiError::internal)?;
    *request.headers_mut() = headers::of_upgrade(&head.parts.headers);
    request.headers_mut().insert(HOST, HeaderValue::from_static("kubelet"));
    switch(server, head, &Destination::Kubelet(&node), request, wanted).await
}

/// Parameters under the names that the kubelet has for them.
fn parameters(query: &super::super::query::Query, names: &[(&str, &str)]) -> String {
    let all = names.iter().flat_map(|(given, kubelets)| {
        query.all(given).into_iter().map(move |value| format!("{kubelets}={}", encoded(value)))
    });
    all.collect::<Vec<_>>().join("&")
}

/// Hands the client's upgrade on, and joins the connections if the other end agrees. Of a refusal the client
/// gets code and text only; an answer that neither agrees nor refuses is an error, as with upstream.
pub(super) async fn switch(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    destination: &Destination<'_>,
    mut request: Request<Body>,
    wanted: Wanted,
) -> Result<Response<Body>, ApiError> {
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    request.headers_mut().insert(UPGRADE, wanted.protocol.clone());
    // Upstream's words.
    let failed = |text: String| ApiError::new(500, "", text);
    let answered = ask(server, destination, request).await;
    let Answered { response, guard } =
        answered.map_err(|Unanswered(error)| failed(format!("error dialing backend: {error}")))?;
    match response.status().as_u16() {
        101 => {}
        code @ 400..600 => {
            let text = log::refusal(guard.keep(response.into_body())).await;
            return Ok(answer::text(code, text));
        }
        code => return Err(failed(format!("invalid upgrade response: status code {code}"))),
    }
    let switch = headers::of_switch(response.headers());
    Ok(joined(server, head, wanted, response, switch, guard))
}

/// Joins a client with whoever has agreed to switch, and tells the client so. `kept` lives until both have.
pub(in super::super) fn joined(
    server: &Arc<ApiServer>,
    head: &Head<'_>,
    wanted: Wanted,
    mut response: Response<Incoming>,
    headers: HeaderMap,
    kept: impl Send + 'static,
) -> Response<Body> {
    let other = hyper::upgrade::on(&mut response);
    let (peer, client) = (head.peer.clone(), wanted.client);
    let seat = SeatKeeper::default();
    let held = seat.clone();
    server.stage.spawn_cancellable("tunnel", OnExit::Done, async move {
        let _held = held;
        // The connection to the other side has to live until it is ours.
        let joined = tokio::try_join!(client, other);
        drop(kept);
        match joined {
            Ok((client, other)) => join(&peer, client, other).await,
            Err(error) => tracing::debug!(%error, "a tunnel did not come about"),
        }
    });
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().entry(UPGRADE).or_insert(wanted.protocol);
    answer.extensions_mut().insert(seat);
    answer
}

/// Counts a tunnel among what takes its time on a connection.
struct Open(Arc<Peer>);

impl Open {
    fn new(peer: &Arc<Peer>) -> Self {
        peer.vitals.unhurried.fetch_add(1, Ordering::Relaxed);
        Open(peer.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.vitals.unhurried.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Completes when the certificate that the client showed is no longer good.
async fn expired(peer: &Peer) {
    let Some(certificate) = &peer.certificate else { return std::future::pending().await };
    while let Some(left) = certificate.remaining(SystemTime::now()) {
        tokio::time::sleep(left.min(LONGEST_WAIT)).await;
    }
}

/// Carries bytes both ways until one side ends, the port closes, the connection has to give way or the
/// client's certificate ends.
async fn join(peer: &Arc<Peer>, client: Upgraded, kubelet: Upgraded) {
    let (mut client, mut kubelet) = (TokioIo::new(client), TokioIo::new(kubelet));
    let copying = async {
        let done = tokio::io::copy_bidirectional(&mut client, &mut kubelet).await;
        if let Err(error) = done {
            tracing::debug!(%error, "a tunnel ended");
        }
    };
    if while_allowed(peer, copying).await == Over::Expired {
        tracing::debug!(peer = %peer.address, "a tunnel ended with its client's certificate");
        let _ = tokio::time::timeout(FAREWELL, client.shutdown()).await;
    }
}

/// Why a connection that is no longer HTTP is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Done,
    Cut,
    /// The certificate that the client showed is no longer good.
    Expired,
}

/// Works for as long as the client may go on.
pub(super) async fn while_allowed(peer: &Arc<Peer>, work: impl Future<Output = ()>) -> Over {
    let _open = Open::new(peer);
    let cut = async {
        match &peer.admission {
            Some(admission) => admission.cut().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = work => Over::Done,
        () = peer.stopping.cancelled() => Over::Cut,
        () = cut => Over::Cut,
        () = expired(peer) => Over::Expired,
    }
}
