//! The HTTPS client: [`ObjectApi`](crate::ObjectApi) across the network, and raw requests for kubectl, logs
//! and proxies.
//!
//! HTTP/2 with multiplexing where the server offers it (ALPN), HTTP/1.1 else. Calls and long-lived streams
//! travel on separate connections ("lanes"), so that many watches can never exhaust the stream limit that
//! calls need. HTTP/2 pings notice a server that vanished without a word. The client certificate can be
//! replaced while running: connections made from then on use it, streams that are open end by themselves.
//! A client that knows several servers of a cluster uses them instead of each other ([`Servers`]).
//!
//! Credentials may come from a source that renews them, and a proxy may stand between.

mod calls;
mod credentials;
mod decode;
mod node;
mod proxy;
mod query;
mod servers;
mod tls;
mod transport;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use parking_lot::Mutex;

pub use credentials::{Credential, CredentialError, CredentialSource};
#[cfg(test)]
pub(crate) use decode::is_connection_error;
pub use decode::{decompressed, error_from_response};
pub use node::TlsNodeDialer;
pub use proxy::Proxy;
pub use query::{decode_component, encode_component, path_of};
pub use servers::Servers;
pub use tls::{ClientCertificate, TlsError, system_authorities};
pub use transport::{RequestError, ResponseBody, Switch};

use tls::CertificateSlot;
use transport::{Transport, Via};

/// How the client proves who it is by what it says in a header.
#[derive(Clone, Debug, Default)]
pub enum Token {
    #[default]
    None,
    Static(String),
    /// Read again after a minute, because projected service account tokens are renewed in place.
    File(PathBuf),
    /// User name and password.
    Basic(String, String),
    /// Asked before every request; may give a client certificate as well.
    Source(Arc<dyn CredentialSource>),
}

/// Everything the client must know about its server.
#[derive(Clone, Debug)]
pub struct HttpsConfig {
    /// `https://host:port`, optionally with a path prefix; `http://` for a local `kubectl proxy`.
    pub server: String,
    /// Servers that connections are made to instead: any of them will do.
    pub servers: Option<Arc<Servers>>,
    /// What connections are made through.
    pub proxy: Option<Proxy>,
    /// Certificates the server's must lead to. Without them the system's bundle is used.
    pub ca_pem: Option<Vec<u8>>,
    pub certificate: Option<ClientCertificate>,
    pub token: Token,
    /// Name to verify, if it is not the host of `server`.
    pub tls_server_name: Option<String>,
    pub insecure_skip_tls_verify: bool,
    /// Limit for TCP and TLS set-up.
    pub connect_timeout: Duration,
    /// Limit for one call of [`ObjectApi`](crate::ObjectApi); watches and raw requests have none.
    pub call_timeout: Duration,
    pub user_agent: String,
    /// Sent with every request, such as `Impersonate-User`.
    pub headers: Vec<(String, String)>,
}

impl HttpsConfig {
    pub fn new(server: impl Into<String>) -> Self {
        HttpsConfig {
            server: server.into(),
            servers: None,
            proxy: None,
            ca_pem: None,
            certificate: None,
            token: Token::None,
            tls_server_name: None,
            insecure_skip_tls_verify: false,
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(60),
            user_agent: user_agent("minik8s"),
            headers: Vec::new(),
        }
    }
}

/// What a program calls itself, in upstream's form. Servers take the part before the slash for the field
/// manager, so a component that does the work of an upstream program has that program's name.
pub fn user_agent(program: &str) -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{program}/{} (linux/{architecture}) kubernetes/unknown", api::GIT_VERSION)
}

/// Why a client cannot be made from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{url:?} is not a server URL such as https://127.0.0.1:6443")]
    Server { url: String },
    #[error("unsupported scheme {scheme:?}, must be http, https, or socks5")]
    ProxyScheme { scheme: String },
    #[error("could not parse: {url}")]
    Proxy { url: String },
    #[error("header {name:?} cannot be sent")]
    Header { name: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The client. Clones share connections.
#[derive(Clone)]
pub struct HttpsApi {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Arc<Transport>,
    certificate: Arc<CertificateSlot>,
    scheme: Scheme,
    authority: Authority,
    /// Path prefix of the server URL without trailing slash; mostly empty.
    prefix: String,
    token: Token,
    token_cache: Mutex<Option<(Instant, HeaderValue)>>,
    /// What a source gave last.
    credential: Mutex<Option<Arc<Credential>>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    call_timeout: Duration,
}

/// How long a token that was read from a file is used before the file is looked at again.
const TOKEN_FILE_AGE: Duration = Duration::from_secs(60);

impl HttpsApi {
    /// Opens no connection yet. Must be called, and used, within a tokio runtime.
    pub fn new(config: HttpsConfig) -> Result<Self, ConfigError> {
        let (scheme, authority, prefix) = split_server(&config.server)?;
        let certificate = Arc::new(CertificateSlot::new(config.certificate.as_ref())?);
        let tls = tls::client_config(&config, certificate.clone())?;
        let name = config.tls_server_name.as_deref();
        let via = Via { servers: config.servers, proxy: config.proxy };
        let transport = Transport::new(Arc::new(tls), name, via, config.connect_timeout)?;
        let mut headers = parsed_headers(&config.headers)?;
        headers.extend(parsed_headers(&[(USER_AGENT.as_str().to_string(), config.user_agent.clone())])?);
        let inner = Inner {
            transport: Arc::new(transport),
            certificate,
            scheme,
            authority,
            prefix,
            token: config.token,
            token_cache: Mutex::new(None),
            credential: Mutex::new(None),
            headers,
            call_timeout: config.call_timeout,
        };
        Ok(HttpsApi { inner: Arc::new(inner) })
    }

    /// The same server through the same connections, with further headers such as `Impersonate-User`. One of
    /// a name that is sent already takes its place.
    pub fn with_headers(&self, headers: &[(String, String)]) -> Result<Self, ConfigError> {
        let more = parsed_headers(headers)?;
        let mut all = self.inner.headers.clone();
        all.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        all.extend(more);
        let inner = Inner {
            transport: self.inner.transport.clone(),
            certificate: self.inner.certificate.clone(),
            scheme: self.inner.scheme.clone(),
            authority: self.inner.authority.clone(),
            prefix: self.inner.prefix.clone(),
            token: self.inner.token.clone(),
            token_cache: Mutex::new(None),
            credential: Mutex::new(None),
            headers: all,
            call_timeout: self.inner.call_timeout,
        };
        Ok(HttpsApi { inner: Arc::new(inner) })
    }

    /// Uses another client certificate for every connection from now on.
    pub fn replace_certificate(&self, certificate: &ClientCertificate) -> Result<(), TlsError> {
        self.inner.certificate.replace(certificate)?;
        self.inner.transport.reset();
        Ok(())
    }

    /// `host:port` of the server, for messages.
    pub fn authority(&self) -> &str {
        self.inner.authority.as_str()
    }

    /// Sends a request whose URI is a path (and query) below the server's URL. The answer's body streams.
    pub async fn request(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, RequestError> {
        let request = self.addressed(request).await?;
        let response = self.inner.transport.call(request).await?;
        self.noticed(response.status());
        Ok(response)
    }

    /// As [`HttpsApi::request`], for answers that go on for long (watches, followed logs).
    pub async fn stream(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, RequestError> {
        let request = self.addressed(request).await?;
        let response = self.inner.transport.stream(request).await?;
        self.noticed(response.status());
        Ok(response)
    }

    /// Asks for another protocol on a connection of its own (HTTP/1.1).
    pub async fn switch(&self, request: Request<Bytes>) -> Result<Switch, RequestError> {
        let request = self.addressed(request).await?;
        let switched = self.inner.transport.switch(request).await?;
        if let Switch::Refused { status, .. } = &switched {
            self.noticed(*status);
        }
        Ok(switched)
    }

    async fn addressed(&self, mut request: Request<Bytes>) -> Result<Request<Bytes>, RequestError> {
        let inner = &self.inner;
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let path = format!("{}{path}", inner.prefix);
        let uri = Uri::builder()
            .scheme(inner.scheme.clone())
            .authority(inner.authority.clone())
            .path_and_query(path);
        *request.uri_mut() = uri.build().map_err(|source| RequestError::Invalid { source })?;
        for (name, _) in &inner.headers {
            request.headers_mut().remove(name);
        }
        // Several of one name go together, such as `Impersonate-Group`.
        for (name, value) in &inner.headers {
            request.headers_mut().append(name.clone(), value.clone());
        }
        if let Some(token) = inner.authorization().await? {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        Ok(request)
    }
}

impl HttpsApi {
    /// Credentials that the server does not accept are not used again.
    fn noticed(&self, status: StatusCode) {
        if let Token::Source(source) = &self.inner.token
            && status == StatusCode::UNAUTHORIZED
            && let Some(credential) = &*self.inner.credential.lock()
        {
            source.refused(credential);
        }
    }
}

impl Inner {
    async fn authorization(&self) -> Result<Option<HeaderValue>, RequestError> {
        match &self.token {
            Token::None => Ok(None),
            Token::Static(token) => header(&format!("Bearer {token}")).map(Some),
            Token::Basic(name, password) => {
                header(&format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))).map(Some)
            }
            Token::Source(source) => {
                let refused = |source| RequestError::Credentials { source };
                let credential = source.current().await.map_err(refused)?;
                let before = self.credential.lock().replace(credential.clone());
                let known = before.as_ref().and_then(|before| before.certificate.as_ref());
                if let Some(certificate) = &credential.certificate
                    && known != Some(certificate)
                {
                    let unusable = |error: TlsError| refused(CredentialError(error.to_string()));
                    self.certificate.replace(certificate).map_err(unusable)?;
                    self.transport.reset();
                }
                credential.token.as_ref().map(|token| header(&format!("Bearer {token}"))).transpose()
            }
            Token::File(path) => {
                let fresh = |(at, _): &&(Instant, HeaderValue)| at.elapsed() < TOKEN_FILE_AGE;
                if let Some((_, value)) = self.token_cache.lock().as_ref().filter(fresh) {
                    return Ok(Some(value.clone()));
                }
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|source| RequestError::TokenFile { path: path.clone(), source })?;
                let value = header(&format!("Bearer {}", text.trim()))?;
                *self.token_cache.lock() = Some((Instant::now(), value.clone()));
                Ok(Some(value))
            }
        }
    }
}

fn parsed_headers(headers: &[(String, String)]) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let parsed = |(name, value): &(String, String)| match (
        HeaderName::from_bytes(name.as_bytes()),
        HeaderValue::from_str(value),
    ) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(ConfigError::Header { name: name.clone() }),
    };
    headers.iter().map(parsed).collect()
}

fn header(text: &str) -> Result<HeaderValue, RequestError> {
    let mut value =
        HeaderValue::from_str(text).map_err(|source| RequestError::Invalid { source: source.into() })?;
    value.set_sensitive(true);
    Ok(value)
}

/// `HOST:PORT` of a server's URL.
pub fn authority_of(server: &str) -> Result<String, ConfigError> {
    split_server(server).map(|(_, authority, _)| authority.to_string())
}

/// Scheme, authority with an explicit port, and path prefix. A bare `host:port` means https, as in client-go.
fn split_server(server: &str) -> Result<(Scheme, Authority, String), ConfigError> {
    let wrong = || ConfigError::Server { url: server.to_string() };
    let with_scheme = if server.contains("://") { server.to_string() } else { format!("https://{server}") };
    let uri: Uri = with_scheme.parse().map_err(|_| wrong())?;
    let scheme = uri
        .scheme()
        .cloned()
        .filter(|one| *one == Scheme::HTTP || *one == Scheme::HTTPS)
        .ok_or_else(wrong)?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    let port = uri.port_u16().unwrap_or(if scheme == Scheme::HTTPS { 443 } else { 80 });
    let authority = format!("{host}:{port}").parse().map_err(|_| wrong())?;
    Ok((scheme, authority, uri.path().trim_end_matches('/').to_string()))
}

#[cfg(test)]
mod tests;
