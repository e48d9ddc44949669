//! HTTPS: from a connection to a handler and back.
//!
//! One `match` on the path's first segment is the routing table of what is no resource; everything below
//! `/api` and `/apis` is parsed into a [`route::Target`] and served from the table of kinds. A panic in a
//! handler is a 500 for that request; nothing else notices.

mod aggregate;
mod answer;
mod audited;
mod body;
mod connect;
mod connection;
mod discovery;
mod gather;
mod gzip;
mod head;
mod health;
mod impersonate;
mod listing;
mod log;
mod metrics;
mod negotiate;
mod openapi;
mod peer;
mod pretty;
mod query;
mod reply;
mod resource;
mod route;
mod table;
mod unread;
mod watch;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::identity::USER_ANONYMOUS;
use api::kinds::{FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION};
use api::{ApiError, Identity};
use axum::body::Body;
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use serde_json::json;

pub(crate) use connection::serve;
pub(crate) use health::readiness;
pub(crate) use metrics::Metrics;
pub(crate) use peer::Peer;
pub(crate) use query::percent_decoded;
pub(crate) use reply::Reply;

use head::{Head, Preferences};

use crate::aggregation::paths::of_path;
use crate::audit::Trail;
use crate::fairness::{self, Seat};
use crate::server::ApiServer;
use crate::strategy::CachedObjects;

const FLOW_SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// How long a request that is not a stream may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers one request, whatever happens.
pub(crate) async fn handle(
    server: Arc<ApiServer>,
    peer: Arc<Peer>,
    request: Request<Body>,
) -> Response<Reply> {
    let in_flight = peer.vitals.begin();
    let preferences = Preferences {
        accepted: negotiate::choose(&negotiate::accept_header(request.headers())),
        pretty: answer::wants_pretty(request.uri().query(), request.headers()),
    };
    // Formatted only if somebody reads it.
    let line =
        tracing::enabled!(tracing::Level::DEBUG).then(|| format!("{} {}", request.method(), request.uri()));
    let start = std::time::Instant::now();
    let (mut turn, mut trail) = (Turn::default(), None);
    let work = dispatch(&server, &peer, &preferences, request, (&mut turn, &mut trail));
    let work = AssertUnwindSafe(work).catch_unwind();
    let mut response = match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
        Ok(Ok(outcome)) => outcome.unwrap_or_else(|error| answer::status(&error, &preferences)),
        Ok(Err(_)) => {
            tracing::error!(peer = %peer.address, "a request handler panicked");
            if let Some(trail) = &trail {
                trail.panicked("a request handler panicked");
            }
            let error =
                ApiError::internal("this request caused apiserver to panic. Look in the logs for details.");
            answer::status(&error, &preferences)
        }
        Err(_) => answer::status(&timed_out(), &preferences),
    };
    if let Some(line) = line {
        tracing::debug!(peer = %peer.address, code = response.status().as_u16(), took = ?start.elapsed(), "{line}");
    }
    if let Some(names) = turn.names {
        name_flow(&server, names, response.headers_mut());
    }
    if let Some(trail) = trail {
        response = audited::answer(response, trail);
    }
    let mut seat = turn.seat;
    reply::SeatKeeper::take_over(&mut response, &mut seat);
    let unhurried = response.extensions().get::<reply::Unhurried>().map(|_| peer.vitals.unhurried.clone());
    response.map(|body| Reply::new(body, (in_flight, seat), unhurried))
}

async fn dispatch(
    server: &Arc<ApiServer>,
    peer: &Arc<Peer>,
    preferences: &Preferences,
    request: Request<Body>,
    (turn, trail): (&mut Turn, &mut Option<Arc<Trail>>),
) -> Result<Response<Body>, ApiError> {
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path();
    let trimmed = path.trim_matches('/');
    let first = trimmed.split('/').next().unwrap_or("");
    // Anonymous by nature: a joining machine needs the CA before it can trust anything, probes have no
    // credentials.
    match first {
        "cacerts" if trimmed == first => return Ok(answer::text(200, server.registry.config.ca_pem.clone())),
        "healthz" | "livez" | "readyz" => {
            if let Some(audit) = &server.registry.config.audit {
                let caller =
                    authenticate(server, peer, &parts).unwrap_or_else(|_| Identity::anonymous().into());
                *trail = audited::begin(audit, peer, &parts, &caller)?;
            }
            return Ok(health::answer(server, trimmed, parts.uri.query().unwrap_or("")));
        }
        _ => {}
    }
    let caller = match authenticate(server, peer, &parts) {
        Ok(caller) => caller,
        Err(error) => {
            audited::unknown(server.registry.config.audit.as_ref(), peer, &parts);
            return Err(error);
        }
    };
    if let Some(audit) = &server.registry.config.audit {
        *trail = audited::begin(audit, peer, &parts, &caller)?;
    }
    let user = impersonate::identity(&server.registry.authorizer, caller.clone(), &parts.headers)?;
    if let Some(trail) = &*trail {
        if !Arc::ptr_eq(&caller, &user) {
            trail.impersonates(&user);
        }
        body = audited::request(body, trail, &parts.headers);
    }
    let query = query::Query::parse(parts.uri.query().unwrap_or(""))?;
    let trail = trail.clone();
    let head = Head { parts: &parts, path, query, user, peer, preferences, trail };
    let resources = server.registry.resources.load();
    if let Some((remotes, at)) = of_path(&server.registry.aggregation, &resources, trimmed) {
        let length = http_body::Body::size_hint(&body).exact();
        let kind = kind_of_remote(&head, length);
        time_limit(&head, kind)?;
        turn.take(server, of_path_only(&head), kind).await?;
        return aggregate::serve(server, &head, &remotes[at], trimmed, body).await;
    }
    if let Some(target) = route::parse(&resources, path)? {
        let (request, kind) = resource::flow(&head, &target, http_body::Body::size_hint(&body).exact())?;
        let limit = time_limit(&head, kind)?;
        let work = pin!(async {
            turn.take(server, request, kind).await?;
            if let (fairness::Kind::Endless, Some(seat)) = (kind, &mut turn.seat) {
                seat.keep(Box::new(resource::long_running(server, &head, &target)?));
            }
            resource::serve(server, &head, &target, body).await
        });
        return match limit {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out())),
        };
    }
    time_limit(&head, fairness::Kind::Reads)?;
    turn.take(server, of_path_only(&head), fairness::Kind::Reads).await?;
    let decided = server.registry.authorizer.check_path(&head.user, head.parts.method.as_str(), head.path);
    head.decided(&decided);
    decided?;
    if !head.reads() {
        return Err(route::unknown());
    }
    match first {
        "" => Ok(answer::json(200, &json!({ "paths": root_paths(server) }), &head)),
        "api" | "apis" => discovery::answer(server, &head, trimmed).await,
        "openapi" => openapi::answer(server, &head, trimmed).await,
        "version" if trimmed == first => Ok(answer::json(200, &version(server), &head)),
        "metrics" if trimmed == first => Ok(answer::text(200, server.metrics.render(server))),
        ".well-known" if trimmed == ".well-known/openid-configuration" => {
            Ok(answer::json(200, &openid(server), &head))
        }
        "openid" if trimmed == "openid/v1/jwks" => {
            Ok(answer::json(200, &server.registry.authenticator.jwks(), &head))
        }
        _ => Err(route::unknown()),
    }
}

/// A certificate counts before a token; with neither the caller is anonymous, if that is allowed.
fn authenticate(server: &ApiServer, peer: &Peer, parts: &Parts) -> Result<Arc<Identity>, ApiError> {
    if let Some(certified) = peer.certified() {
        return certified;
    }
    let identity = match parts.headers.get(http::header::AUTHORIZATION) {
        None => Identity::anonymous(),
        Some(value) => {
            let value = value.to_str().map_err(|_| ApiError::unauthorized())?;
            let identity = server.registry.authenticator.authorization(value)?;
            if identity.name != USER_ANONYMOUS {
                peer.identify(&identity)?;
            }
            identity
        }
    };
    if identity.name == USER_ANONYMOUS && !server.registry.config.anonymous_auth {
        return Err(ApiError::unauthorized());
    }
    Ok(Arc::new(identity))
}

/// The flow that a request belongs to, and its seat once it has one.
#[derive(Default)]
struct Turn {
    names: Option<fairness::Names>,
    seat: Option<Seat>,
}

impl Turn {
    async fn take(
        &mut self,
        server: &ApiServer,
        request: fairness::Request<'_>,
        kind: fairness::Kind,
    ) -> Result<(), ApiError> {
        self.names = Some(request.names());
        self.seat = Some(server.fairness.admit(&request, kind).await?);
        Ok(())
    }
}

/// Says which flow schema and priority level a request belonged to.
fn name_flow(server: &ApiServer, names: fairness::Names, headers: &mut HeaderMap) {
    let caches: &dyn CachedObjects = &*server.registry.caches;
    for (header, row, name) in [
        (FLOW_SCHEMA_UID, &FLOW_SCHEMA, names.schema),
        (PRIORITY_LEVEL_UID, &PRIORITY_LEVEL_CONFIGURATION, names.level),
    ] {
        let object = caches.get(row, None, name);
        if let Some(uid) = object.and_then(|object| HeaderValue::from_str(object.uid()).ok()) {
            headers.insert(header, uid);
        }
    }
}

fn timed_out() -> ApiError {
    ApiError::timeout("Timeout: request did not complete within the allotted timeout")
}

/// How long the client gives a request that ends by itself, if that is less than the server gives it.
fn time_limit(head: &Head<'_>, kind: fairness::Kind) -> Result<Option<Duration>, ApiError> {
    let Some(text) = head.query.get("timeout").filter(|_| !matches!(kind, fairness::Kind::Endless)) else {
        return Ok(None);
    };
    let asked = api::duration::parse(text).map_err(|error| {
        ApiError::bad_request(format!("invalid timeout specified in the request URL - {error}"))
    })?;
    let asked = Duration::try_from(asked).ok();
    Ok(asked.filter(|asked| !asked.is_zero() && *asked < REQUEST_TIMEOUT))
}

/// A request that is about no resource of this server, to fairness.
fn of_path_only<'a>(head: &'a Head<'_>) -> fairness::Request<'a> {
    fairness::Request {
        user: &head.user,
        verb: head.parts.method.as_str(),
        group: "",
        resource: "",
        subresource: None,
        namespace: None,
    }
}

/// What a request that is handed on to another server is to fairness.
fn kind_of_remote(head: &Head<'_>, body: Option<u64>) -> fairness::Kind {
    match head.reads() {
        true if head.query.flag("watch") || head.parts.headers.contains_key(http::header::UPGRADE) => {
            fairness::Kind::Endless
        }
        true => fairness::Kind::Reads,
        false => fairness::Kind::Writes { body },
    }
}

fn root_paths(server: &ApiServer) -> Vec<String> {
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis"].map(String::from).to_vec();
    let mut groups: Vec<String> = Vec::new();
    for group in server.registry.resources.load().groups().iter().filter(|group| !group.name.is_empty()) {
        let name = &group.name;
        groups.push(format!("/apis/{name}"));
        groups.extend(group.versions().iter().map(|(version, _)| format!("/apis/{name}/{version}")));
    }
    groups.sort();
    paths.extend(groups);
    let rest = ["/healthz", "/livez", "/metrics", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"];
    paths.extend(rest.map(String::from));
    paths
}

fn version(server: &ApiServer) -> serde_json::Value {
    let version = &server.registry.config.version;
    let mut numbers = version.git_version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or(""), numbers.next().unwrap_or(""));
    json!({
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": minor,
        "gitVersion": version.git_version,
        "gitCommit": version.git_commit,
        "gitTreeState": "clean",
        "buildDate": version.build_date,
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    })
}

/// The architecture as Go names it, which is what clients compare with image platforms.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn openid(server: &ApiServer) -> serde_json::Value {
    let config = &server.registry.config;
    let host = SocketAddr::new(*config.advertise_address.borrow(), config.advertise_port);
    let host = format!("https://{host}");
    json!({
        "issuer": server.registry.authenticator.issuer(),
        "jwks_uri": format!("{host}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}
