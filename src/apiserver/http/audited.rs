//! The trail of an HTTP request: what its path means, its bodies on their way in and out, and its end.
//!
//! Bodies are copied as they pass, up to a bound, and only where the policy wants them or a refusal is in
//! them.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use api::{ApiError, Identity};
use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, USER_AGENT};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use http_body::{Body as _, Frame, SizeHint};

use super::peer::Peer;
use super::query::{Query, percent_decoded};
use crate::audit::{Attributes, Audit, Content, Held, Origin, Trail};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Of a user agent, as upstream has it.
const LONGEST_AGENT: usize = 1024;
/// Addresses that a client may name.
const MOST_ADDRESSES: usize = 32;
/// Subresources whose requests have no end of their own.
pub(super) const ENDLESS: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

/// The trail of a request of this caller; none if the policy is not about it.
pub(super) fn begin(
    audit: &Arc<Audit>,
    peer: &Peer,
    parts: &Parts,
    caller: &Arc<Identity>,
) -> Result<Option<Arc<Trail>>, ApiError> {
    audit.begin(caller, attributes(parts), || origin(peer, parts))
}

/// A request whose credentials are not accepted.
pub(super) fn unknown(audit: Option<&Arc<Audit>>, peer: &Peer, parts: &Parts) {
    let Some(audit) = audit else { return };
    let mut attempted = Vec::new();
    let given = header(&parts.headers, http::header::AUTHORIZATION).to_ascii_lowercase();
    for scheme in ["basic", "bearer"] {
        if given.trim().split_once(' ').is_some_and(|(own, _)| own == scheme) {
            attempted.push(scheme);
        }
    }
    if peer.certificate.is_some() {
        attempted.push("x509");
    }
    let why = match attempted.as_slice() {
        [] => "Authentication failed, no credentials provided".to_string(),
        some => format!("Authentication failed, attempted: {}", some.join(", ")),
    };
    audit.unauthenticated(attributes(parts), || origin(peer, parts), &why);
}

fn header(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn origin(peer: &Peer, parts: &Parts) -> Origin {
    let header = |name| header(&parts.headers, name);
    // The client's word for what is before it, then what is known.
    let forwarded = header(HeaderName::from_static("x-forwarded-for")).split(',');
    let real = header(HeaderName::from_static("x-real-ip"));
    let mut source_ips: Vec<String> = Vec::new();
    for ip in forwarded.take(MOST_ADDRESSES).chain([real]) {
        if let Ok(ip) = ip.trim().parse::<IpAddr>() {
            source_ips.push(ip.to_string());
        }
    }
    let at = source_ips.len().saturating_sub(1);
    if source_ips.last().is_some_and(|last| source_ips[..at].contains(last) && !real.is_empty()) {
        source_ips.pop();
    }
    let own = peer.address.ip().to_canonical().to_string();
    if source_ips.last() != Some(&own) {
        source_ips.push(own);
    }
    // It is ASCII, or it would be empty.
    let given = header(USER_AGENT);
    let user_agent = match given.get(..LONGEST_AGENT).filter(|_| given.len() > LONGEST_AGENT) {
        Some(cut) => format!("{cut}...TRUNCATED"),
        None => given.to_string(),
    };
    // With HTTP/2 the URI says the server's name as well.
    let uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_string();
    Origin { id: header(AUDIT_ID).to_string(), uri, source_ips, user_agent }
}

/// What a request is about, by its path and method alone: of resources of other servers, too.
fn attributes(parts: &Parts) -> Attributes {
    let path = parts.uri.path();
    let mut what = Attributes {
        verb: parts.method.as_str().to_lowercase(),
        path: path.to_string(),
        ..Attributes::default()
    };
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (group, version, rest) = match segments[..] {
        ["api", version, ref rest @ ..] => ("", version, rest),
        ["apis", group, version, ref rest @ ..] => (group, version, rest),
        _ => return what,
    };
    let (watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let (namespace, resource, rest) = match *rest {
        [] => return what,
        ["namespaces", namespace, resource, ref rest @ ..] if !matches!(resource, "status" | "finalize") => {
            (namespace, resource, rest)
        }
        ["namespaces", name, ref rest @ ..] => (name, "namespaces", {
            what.name = percent_decoded(name).unwrap_or_default();
            rest
        }),
        [resource, ref rest @ ..] => ("", resource, rest),
    };
    what.is_resource = true;
    (what.group, what.version, what.resource) = (group.into(), version.into(), resource.into());
    what.namespace = percent_decoded(namespace).unwrap_or_default();
    let mut rest = rest.iter();
    if what.name.is_empty() {
        what.name = rest.next().map(|name| percent_decoded(name).unwrap_or_default()).unwrap_or_default();
    }
    what.subresource = rest.next().map(|part| part.to_string()).unwrap_or_default();
    let query = Query::parse(parts.uri.query().unwrap_or("")).unwrap_or_default();
    let named = !what.name.is_empty();
    what.verb = match parts.method {
        Method::GET | Method::HEAD if watch || (!named && query.flag("watch")) => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "",
    }
    .to_string();
    what
}

/// A body of a request that is told of as it is read.
pub(super) fn request(body: Body, trail: &Arc<Trail>, headers: &HeaderMap) -> Body {
    if !trail.wants_request() || body.is_end_stream() {
        return body;
    }
    let content_type = header(headers, CONTENT_TYPE).to_string();
    let (held, trail) = (trail.hold(), trail.clone());
    let told = move |passed| match passed {
        Passed::Whole(bytes, held) => trail.request(Content::new(&content_type, bytes, held)),
        Passed::TooMuch => trail.truncated(),
        Passed::Nothing => {}
    };
    Body::new(Copied { body, copy: Some((Vec::new(), held)), wanted: true, told: Some(told) })
}

/// An answer that is told of when it has been sent, or given up.
pub(super) fn answer(mut response: Response<Body>, trail: Arc<Trail>) -> Response<Body> {
    if let Ok(id) = HeaderValue::from_str(trail.id()) {
        response.headers_mut().insert(AUDIT_ID, id);
    }
    let code = response.status().as_u16();
    let endless = trail.is_endless(&ENDLESS);
    if endless {
        trail.started(code);
    }
    // A refusal is a Status, which the event tells at every level.
    let wanted = code >= 400 || (trail.wants_response() && !endless);
    let content_type = header(response.headers(), CONTENT_TYPE).to_string();
    let copy = wanted.then(|| (Vec::new(), trail.hold()));
    let told = move |passed| match passed {
        Passed::Whole(bytes, held) => trail.complete(code, Some(Content::new(&content_type, bytes, held))),
        Passed::TooMuch => {
            trail.truncated();
            trail.complete(code, None);
        }
        Passed::Nothing => trail.complete(code, None),
    };
    response.map(|body| Body::new(Copied { body, copy, wanted, told: Some(told) }))
}

/// What has gone through.
enum Passed {
    Whole(Vec<u8>, Held),
    /// There was no room for it.
    TooMuch,
    /// It was not wanted, or has not come to its end.
    Nothing,
}

/// A body that is copied as it passes.
struct Copied<F: FnOnce(Passed)> {
    body: Body,
    /// None if nothing is wanted, or it has become too much.
    copy: Option<(Vec<u8>, Held)>,
    wanted: bool,
    /// Called at the end.
    told: Option<F>,
}

impl<F: FnOnce(Passed)> Copied<F> {
    fn end(&mut self, whole: bool) {
        let Some(told) = self.told.take() else { return };
        told(match self.copy.take() {
            Some((bytes, held)) if whole => Passed::Whole(bytes, held),
            None if self.wanted => Passed::TooMuch,
            _ => Passed::Nothing,
        });
    }

    fn copy(&mut self, data: &Bytes) {
        let Some((copy, held)) = &mut self.copy else { return };
        match held.grow(data.len()) {
            true => copy.extend_from_slice(data),
            false => self.copy = None,
        }
    }
}

impl<F: FnOnce(Passed) + Unpin> http_body::Body for Copied<F> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.copy(data);
                }
                if this.body.is_end_stream() {
                    this.end(true);
                }
            }
            Some(Err(_)) => this.end(false),
            None => this.end(true),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<F: FnOnce(Passed)> Drop for Copied<F> {
    fn drop(&mut self) {
        // An empty body may never be asked for.
        let whole = self.body.is_end_stream();
        self.end(whole);
    }
}
