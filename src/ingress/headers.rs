//! What is passed on of a request's and an answer's headers. Pure.
//!
//! Headers between two neighbours stay between them. What a client says of who it is and where it came from
//! is dropped and said anew: nobody in front of the node is trusted, and names with an underscore count as
//! those with a dash, because many programs read them so. The body's length is told by the body itself.

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};

/// Why a request is refused without being passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadRequest(&'static str),
    NotImplemented(&'static str),
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const BETWEEN_NEIGHBOURS: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The one host that a request is for. None only for HTTP/1.0, which knows none.
pub(crate) fn authority<B>(request: &Request<B>) -> Result<Option<Authority>, Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::BadRequest("more than one Host header"));
    }
    // The target wins over the header, as RFC 9112 demands.
    let authority = match (request.uri().authority(), first) {
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(host)) if host.is_empty() => None,
        (None, Some(host)) => {
            let parsed = Authority::try_from(host.as_bytes());
            Some(parsed.map_err(|_| Refusal::BadRequest("malformed Host header"))?)
        }
        (None, None) => None,
    };
    match &authority {
        None if request.version() == Version::HTTP_11 && first.is_none() => {
            Err(Refusal::BadRequest("missing required Host header"))
        }
        Some(authority) if authority.as_str().contains('@') => {
            Err(Refusal::BadRequest("malformed Host header"))
        }
        _ => Ok(authority),
    }
}

/// A host as rules name it: in lower case, without a port, brackets and the dot at its end.
pub(crate) fn host_of(authority: &Authority) -> String {
    let mut host = authority.host().trim_end_matches('.').to_string();
    host.make_ascii_lowercase();
    host
}

/// Refuses what two programs could read differently. (Of a length beside chunks hyper has dropped the length
/// by now, as RFC 9112 demands, and two lengths it has refused.)
pub(crate) fn check(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    if method == Method::CONNECT {
        return Err(Refusal::NotImplemented("CONNECT is not served"));
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next()
        && (encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Refusal::NotImplemented("an unsupported transfer encoding"));
    }
    Ok(())
}

/// The protocol that a request of HTTP/1.1 asks to change to. That to HTTP/2 is not passed on: what follows
/// it would pass by every rule.
pub(crate) fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    if version != Version::HTTP_11 || !names(headers, "upgrade") {
        return None;
    }
    let mut wanted = headers.get_all(UPGRADE).iter();
    let (protocol, second) = (wanted.next()?, wanted.next());
    let text = protocol.to_str().ok()?.to_ascii_lowercase();
    (second.is_none() && !text.contains("h2c")).then(|| protocol.clone())
}

/// Whether `Connection` has a word.
fn names(headers: &HeaderMap, word: &str) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
}

/// Removes what is for neighbours only, and what `Connection` names.
pub(crate) fn drop_between_neighbours(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let words = values.flat_map(|value| value.split(',')).map(str::trim);
        let named: Vec<HeaderName> = words.filter_map(|word| HeaderName::try_from(word).ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in BETWEEN_NEIGHBOURS {
        headers.remove(name);
    }
}

fn speaks_of_the_client(name: &HeaderName) -> bool {
    let name = name.as_str();
    if name.contains('_') {
        let name = name.replace('_', "-");
        return name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip";
    }
    name.starts_with("x-forwarded-")
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) address: IpAddr,
    pub(crate) secure: bool,
    /// The port that it came in by.
    pub(crate) port: u16,
}

/// Turns a request's headers into those that the backend gets.
pub(crate) fn outward(
    headers: &mut HeaderMap,
    authority: Option<&Authority>,
    origin: Origin,
    upgrade: Option<HeaderValue>,
) {
    let trailers = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    let trailers =
        trailers.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case("trailers"));
    drop_between_neighbours(headers);
    let spoken: Vec<HeaderName> = headers.keys().filter(|name| speaks_of_the_client(name)).cloned().collect();
    for name in spoken {
        headers.remove(name);
    }
    for name in [FORWARDED, REAL_IP, EXPECT, CONTENT_LENGTH, HOST] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if let Some(value) = authority.and_then(|it| HeaderValue::from_str(it.as_str()).ok()) {
        headers.insert(HOST, value.clone());
        headers.insert(FORWARDED_HOST, value);
    }
    if let Ok(address) = HeaderValue::from_str(&origin.address.to_string()) {
        headers.insert(FORWARDED_FOR, address.clone());
        headers.insert(REAL_IP, address);
    }
    headers.insert(FORWARDED_PORT, HeaderValue::from(origin.port));
    let scheme = if origin.secure { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
}

#[cfg(test)]
mod tests;
