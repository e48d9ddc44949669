//! HTTP requests of probes and hooks, as Go's client makes them: redirects are followed, but only on the host
//! that was asked first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderMap, LOCATION};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{HTTPGetAction, HTTPHeader};
use tokio::io::{AsyncRead, AsyncWrite};
use url::{Host, Url};

use super::prober::{MOST_OUTPUT, RequestError, Target, connect, host_of, port_number};

/// Requests after which a chain of redirects is given up.
const MOST_REQUESTS: usize = 10;

/// Status and the beginning of the body; what went wrong, as Go's client says it. `agent` is who asks. A
/// redirect to another host is the answer itself.
pub(crate) async fn get(
    action: &HTTPGetAction,
    target: &Target,
    agent: &str,
    timeout: Duration,
) -> Result<(u16, String), RequestError> {
    let began = Instant::now();
    let headers = action.http_headers.as_deref().unwrap_or_default();
    let first = Place::of(action, target)?;
    let (mut at, mut referer) = (first.clone(), None);
    let host = headers.iter().find(|one| one.name.eq_ignore_ascii_case("host"));
    let mut host = host.map(|one| one.value.as_str()).filter(|host| !host.is_empty());
    for asked in 1.. {
        let failed = |url: &dyn std::fmt::Display, source| RequestError::Get {
            url: url.to_string(),
            source: Box::new(source),
        };
        let request =
            request(&at, host, referer.as_deref(), agent, headers).map_err(|error| failed(&at, error))?;
        let left = timeout.saturating_sub(began.elapsed());
        let answer = match tokio::time::timeout(left, ask(&at, request, timeout)).await {
            Ok(answer) => answer.map_err(|error| failed(&at, error))?,
            Err(_) => return Err(RequestError::GetTimeout(at.to_string())),
        };
        let Some(location) = answer.location() else { return Ok((answer.status, answer.body)) };
        let next = at.redirected(location).map_err(|error| failed(&at, error))?;
        if !next.host.eq_ignore_ascii_case(&first.host) {
            return Ok((answer.status, answer.body));
        }
        if asked == MOST_REQUESTS {
            return Err(failed(&location, RequestError::TooManyRedirects));
        }
        if !matches!(next.scheme.as_str(), "http" | "https") {
            return Err(failed(&location, RequestError::Scheme(next.scheme)));
        }
        if Url::parse(location).is_ok() {
            // It names a host itself.
            host = None;
        }
        referer = (at.scheme != "https" || next.scheme == "https").then(|| at.to_string());
        at = next;
    }
    Err(RequestError::TooManyRedirects)
}

/// Where a request goes.
#[derive(Clone)]
struct Place {
    scheme: String,
    /// Without brackets.
    host: String,
    port: u16,
    /// Host and port as they are written.
    authority: String,
    /// With the query.
    path: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

impl Place {
    fn of(action: &HTTPGetAction, target: &Target) -> Result<Self, RequestError> {
        let port = port_number(&action.port, &target.container)?;
        let host = host_of(action.host.as_deref(), target);
        let scheme = action.scheme.as_deref().unwrap_or("http").to_ascii_lowercase();
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let path = action.path.as_deref().unwrap_or("");
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        let mut place = Place { scheme, host, port, authority, path };
        let is_plain = !place.path.contains('#') && place.path.parse::<http::uri::PathAndQuery>().is_ok();
        // What may not stand in a request is escaped, and fragments stay here.
        if !is_plain && let Ok(url) = Url::parse(&place.to_string()) {
            place.path = path_of(&url);
        }
        Ok(place)
    }

    fn redirected(&self, location: &str) -> Result<Self, RequestError> {
        let parsed = Url::parse(&self.to_string()).and_then(|url| url.join(location));
        let url =
            parsed.map_err(|source| RequestError::Location { location: location.to_string(), source })?;
        let names_host = location.starts_with("//") || Url::parse(location).is_ok();
        if !names_host {
            return Ok(Place { path: path_of(&url), ..self.clone() });
        }
        let written = url.host_str().unwrap_or_default();
        Ok(Place {
            scheme: url.scheme().to_string(),
            host: match url.host() {
                Some(Host::Ipv6(address)) => address.to_string(),
                _ => written.to_string(),
            },
            port: url.port_or_known_default().unwrap_or_default(),
            authority: url.port().map_or_else(|| written.to_string(), |port| format!("{written}:{port}")),
            path: path_of(&url),
        })
    }
}

fn path_of(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_string(), |query| format!("{}?{query}", url.path()))
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    /// Where it leads, if it is a redirect that says so.
    fn location(&self) -> Option<&str> {
        let location = self.headers.get(LOCATION)?.to_str().ok()?;
        matches!(self.status, 301 | 302 | 303 | 307 | 308).then_some(location).filter(|one| !one.is_empty())
    }
}

/// A GET with the headers of its action, and with what it does not give. A header that is given empty takes
/// the place of the usual one and is not sent.
fn request(
    at: &Place,
    host: Option<&str>,
    referer: Option<&str>,
    agent: &str,
    headers: &[HTTPHeader],
) -> Result<http::Request<Empty<Bytes>>, RequestError> {
    let mut request = http::Request::get(&at.path).header("Host", host.unwrap_or(&at.authority));
    let given = |name: &str| headers.iter().any(|one| one.name.eq_ignore_ascii_case(name));
    if !given("user-agent") {
        request = request.header("User-Agent", format!("{agent}/1.36"));
    }
    if !given("accept") {
        request = request.header("Accept", "*/*");
    }
    if let Some(referer) = referer.filter(|_| !given("referer")) {
        request = request.header("Referer", referer);
    }
    for header in headers {
        let name = header.name.to_ascii_lowercase();
        let is_unsaid = header.value.is_empty() && matches!(name.as_str(), "accept" | "user-agent");
        if name != "host" && !is_unsaid {
            request = request.header(&header.name, &header.value);
        }
    }
    Ok(request.header("Connection", "close").body(Empty::<Bytes>::new())?)
}

async fn ask(
    at: &Place,
    request: http::Request<Empty<Bytes>>,
    timeout: Duration,
) -> Result<Answer, RequestError> {
    let stream = connect(&at.host, at.port, timeout).await?;
    if at.scheme == "https" {
        let name = rustls::pki_types::ServerName::try_from(at.host.clone())?;
        let connector = tokio_rustls::TlsConnector::from(trusting());
        let stream = connector.connect(name, stream).await?;
        send(stream, request).await
    } else {
        send(stream, request).await
    }
}

async fn send<S>(stream: S, request: http::Request<Empty<Bytes>>) -> Result<Answer, RequestError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let (head, mut body) = response.into_parts();
        let mut text = Vec::new();
        while text.len() < MOST_OUTPUT {
            match body.frame().await {
                Some(Ok(frame)) => text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                _ => break,
            }
        }
        text.truncate(MOST_OUTPUT);
        let body = String::from_utf8_lossy(&text).into_owned();
        Ok::<_, RequestError>(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    tokio::pin!(exchange);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            // The connection may end just after the answer has arrived.
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    }
}

/// Probes take any certificate, as upstream's do: they ask whether the server answers, not who it is.
fn trusting() -> Arc<rustls::ClientConfig> {
    static CONFIG: std::sync::OnceLock<Arc<rustls::ClientConfig>> = std::sync::OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .expect("ring supports the default versions");
            let verifier = Arc::new(AnyCertificate(provider));
            Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
        })
        .clone()
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
