//! One request: which route it takes, which endpoint it is passed to, and what the client gets.
//!
//! A request that could not be sent at all goes to another endpoint; one that was sent and not answered does
//! so only if it may be repeated (RFC 9110, idempotent) and has no body. Everything that a request needs is
//! looked up anew for each: a change of rules or endpoints counts for the next request and ends none.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use supervisor::{OnExit, Stage};
use tokio::sync::Semaphore;

use crate::body::{Reply, Upload};
use crate::facts::{Name, PortName};
use crate::headers::{self, Origin, Refusal};
use crate::listener::Client;
use crate::metrics::{Answers, Metrics};
use crate::paths::climbs;
use crate::pool::{Lease, Pool};
use crate::record::Record;
use crate::services::{Port, Protocol, Slot};
use crate::table::{Table, domain};

/// Endpoints that a request is tried on.
const TRIES: usize = 3;
/// How long a client may send nothing of a body that it has begun.
const UPLOAD: Duration = Duration::from_secs(60);

/// What routes of one ingress share.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) name: Name,
    pub(crate) answers: Arc<Answers>,
    /// Hosts with TLS that plain HTTP is sent to; an empty one stands for all.
    pub(crate) secure_hosts: HashSet<String>,
    pub(crate) response_timeout: Option<Duration>,
}

impl Owner {
    fn redirects(&self, host: &str) -> bool {
        let has = |secure: &str| self.secure_hosts.contains(secure);
        let below = || domain(host).is_some_and(|above| has(&format!("*{above}")));
        !host.is_empty() && !self.secure_hosts.is_empty() && (has("") || has(host) || below())
    }
}

/// Where a rule leads.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) owner: Arc<Owner>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) port: PortName,
}

pub(crate) struct Proxy {
    pub(crate) table: ArcSwap<Table<Arc<Route>>>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stage: Stage,
    /// Where plain HTTP is sent; none if there is no TLS.
    pub(crate) https_port: Option<u16>,
    /// Requests at a time.
    pub(crate) places: Arc<Semaphore>,
}

fn text(status: StatusCode, words: &'static str, mut record: Record) -> Response<Reply> {
    record.status = status.as_u16();
    let mut answer = Response::new(Reply::Text(Some(Bytes::from_static(words.as_bytes())), record));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// What came of passing a request on: an answer with the connection that it comes by, or what the client is
/// told.
type Outcome = Result<(Response<Incoming>, Lease), (StatusCode, &'static str)>;

impl Proxy {
    /// Answers one request.
    pub(crate) async fn handle(
        &self,
        client: &Arc<Client>,
        mut request: Request<Incoming>,
    ) -> Response<Reply> {
        let mut record = Record::begin(&self.metrics, client.origin.address, &request);
        let authority =
            headers::check(request.method(), request.headers()).and_then(|()| headers::authority(&request));
        let authority = match authority {
            Ok(authority) => authority,
            Err(Refusal::BadRequest(why)) => return text(StatusCode::BAD_REQUEST, why, record),
            Err(Refusal::NotImplemented(why)) => return text(StatusCode::NOT_IMPLEMENTED, why, record),
        };
        if climbs(request.uri().path()) {
            return text(StatusCode::BAD_REQUEST, "dots in the path\n", record);
        }
        let host = authority.as_ref().map(headers::host_of).unwrap_or_default();
        let Some(route) = self.table.load().find(&host, request.uri().path()).cloned() else {
            record.led_to(&host, None);
            return text(StatusCode::NOT_FOUND, "404 page not found\n", record);
        };
        record.led_to(&host, Some(&route.owner.name));
        record.answers = Some(route.owner.answers.clone());
        if let Some(port) = self.https_port
            && !client.origin.secure
            && route.owner.redirects(&host)
        {
            return redirect(&host, port, request.uri(), record);
        }
        let Ok(_place) = self.places.clone().try_acquire_owned() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time\n", record);
        };
        let upgrade = headers::upgrade(request.version(), request.headers());
        let switching = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let state = route.slot.state();
        let Some(port) = state.port(&route.port).filter(|port| !port.endpoints.is_empty()) else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "no available server\n", record);
        };
        let outgoing = outgoing(request, authority.as_ref(), client.origin, upgrade, port.protocol);
        match self.pass(&route, port, outgoing, &mut record).await {
            Err((status, why)) => text(status, why, record),
            Ok((answer, lease)) => self.answer(client, answer, lease, switching, record),
        }
    }

    /// The answer to who has too many connections.
    pub(crate) fn refuse<B>(&self, client: &Client, request: &Request<B>) -> Response<Reply> {
        let record = Record::begin(&self.metrics, client.origin.address, request);
        self.metrics.refused.fetch_add(1, Relaxed);
        let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, "too many connections\n", record);
        if request.version() < Version::HTTP_2 {
            answer.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// Sends a request to one endpoint after the other until one answers.
    async fn pass(
        &self,
        route: &Route,
        port: &Port,
        mut request: Request<Upload>,
        record: &mut Record,
    ) -> Outcome {
        // A request without a body can be written out again.
        let again =
            (request.body().is_end_stream() && request.method().is_idempotent()).then(|| copy_of(&request));
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut fresh = false;
        let mut why = "no available server\n";
        while tried.len() < TRIES {
            let Some(endpoint) = route.slot.pick(port, &tried, crate::clock()) else { break };
            let address = endpoint.address;
            record.asked(address);
            let leased = self.pool.lease(address, port.protocol, fresh).await;
            let mut lease = match leased {
                Ok(lease) => lease,
                Err(error) => {
                    tracing::debug!(%address, %error, "an endpoint cannot be reached");
                    endpoint.failed(crate::clock());
                    self.metrics.retries.fetch_add(1, Relaxed);
                    tried.push(address);
                    why = "Bad Gateway\n";
                    continue;
                }
            };
            let sent = within(route.owner.response_timeout, lease.send(request)).await;
            let mut error = match sent {
                Some(Ok(answer)) => return Ok((answer, lease)),
                Some(Err(error)) => error,
                None => return Err((StatusCode::GATEWAY_TIMEOUT, "Gateway Timeout\n")),
            };
            tracing::debug!(%address, error = %error.error(), reused = lease.reused, "an endpoint did not answer");
            why = "Bad Gateway\n";
            request = match (error.take_message(), &again) {
                (Some(unsent), _) => unsent,
                (None, Some(again)) => copy_of(again),
                (None, None) => return Err((StatusCode::BAD_GATEWAY, why)),
            };
            self.metrics.retries.fetch_add(1, Relaxed);
            // One that rested may have met the server's farewell: that says nothing of the endpoint.
            fresh = true;
            if !lease.reused {
                tried.push(address);
            }
        }
        Err((StatusCode::BAD_GATEWAY, why))
    }

    fn answer(
        &self,
        client: &Arc<Client>,
        mut answer: Response<Incoming>,
        lease: Lease,
        switching: Option<OnUpgrade>,
        mut record: Record,
    ) -> Response<Reply> {
        let status = answer.status();
        record.status = status.as_u16();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let Some(switching) = switching else {
                return text(StatusCode::BAD_GATEWAY, "Bad Gateway\n", record);
            };
            let protocol = answer.headers().get(UPGRADE).cloned();
            self.join(client.clone(), switching, hyper::upgrade::on(&mut answer));
            headers::drop_between_neighbours(answer.headers_mut());
            if let Some(protocol) = protocol {
                answer.headers_mut().insert(UPGRADE, protocol);
            }
            answer.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
            return answer.map(|_| Reply::Text(None, record));
        }
        headers::drop_between_neighbours(answer.headers_mut());
        *answer.version_mut() = Version::HTTP_11;
        answer.map(|body| {
            if body.is_end_stream() {
                lease.give_back();
                return Reply::Passed { body, lease: None, record };
            }
            Reply::Passed { body, lease: Some(lease), record }
        })
    }

    /// Joins two connections that speak another protocol from now on.
    fn join(&self, client: Arc<Client>, front: OnUpgrade, back: OnUpgrade) {
        self.stage.spawn_cancellable("ingress: upgraded connection", OnExit::Done, async move {
            if let (Ok(front), Ok(back)) = tokio::join!(front, back) {
                let (mut front, mut back) = (TokioIo::new(front), TokioIo::new(back));
                let _ = tokio::io::copy_bidirectional(&mut front, &mut back).await;
            }
            // It has kept its place so far.
            drop(client);
        });
    }
}

async fn within<T>(limit: Option<Duration>, task: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, task).await.ok(),
        None => Some(task.await),
    }
}

fn redirect(host: &str, port: u16, uri: &Uri, record: Record) -> Response<Reply> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let location = match port {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    };
    let mut answer = text(StatusCode::PERMANENT_REDIRECT, "", record);
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

/// The request as the backend gets it.
fn outgoing(
    request: Request<Incoming>,
    authority: Option<&Authority>,
    origin: Origin,
    upgrade: Option<HeaderValue>,
    protocol: Protocol,
) -> Request<Upload> {
    let (mut parts, body) = request.into_parts();
    headers::outward(&mut parts.headers, authority, origin, upgrade);
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    // Streams of gRPC may rest for long in either direction.
    let (version, patience) = match protocol {
        Protocol::Http1 => (Version::HTTP_11, Some(UPLOAD)),
        Protocol::Http2 => (Version::HTTP_2, None),
    };
    parts.version = version;
    let mut target = http::uri::Parts::default();
    if protocol == Protocol::Http2 {
        parts.headers.remove(HOST);
        target.scheme = Some(Scheme::HTTP);
        target.authority = Some(authority.cloned().unwrap_or_else(|| Authority::from_static("localhost")));
    }
    target.path_and_query = Some(path);
    // Its parts fit together: it has a path, and an authority only with a scheme.
    parts.uri = Uri::from_parts(target).unwrap_or_default();
    Request::from_parts(parts, Upload::new(body, patience))
}

/// A request without a body, once more.
fn copy_of(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::Nothing);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

#[cfg(test)]
mod tests;
