//! Reaching a server through a proxy: HTTP and HTTPS proxies by `CONNECT`, and SOCKS5 (RFC 1928, RFC 1929).
//!
//! The names of servers are resolved by the proxy. A plain `http` server is reached by `CONNECT`, too.

use std::io::{self, ErrorKind};
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ConfigError, decode_component};
use crate::ByteStream;

/// A proxy, from its URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    /// User name and password.
    user: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Https,
    Socks5,
}

/// The longest answer of a proxy that is read.
const MAX_HEAD: usize = 16 * 1024;

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({:?} {}:{})", self.kind, self.host, self.port)
    }
}

impl Proxy {
    pub fn parse(url: &str) -> Result<Proxy, ConfigError> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        let (kind, default_port) = match scheme {
            "http" => (Kind::Http, 80),
            "https" => (Kind::Https, 443),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            other => return Err(ConfigError::ProxyScheme { scheme: other.to_string() }),
        };
        let wrong = || ConfigError::Proxy { url: url.to_string() };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (decode_component(name), decode_component(password))
        });
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_string();
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Proxy { kind, host, port: authority.port_u16().unwrap_or(default_port), user })
    }

    /// What `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say for a server. Loopback needs no proxy.
    pub fn from_environment(server: &str) -> Result<Option<Proxy>, ConfigError> {
        let value = |name: &str| {
            let lower = || std::env::var(name.to_lowercase()).ok().filter(|value| !value.is_empty());
            std::env::var(name).ok().filter(|value| !value.is_empty()).or_else(lower)
        };
        let is_plain = server.starts_with("http://");
        let Some(url) = value(if is_plain { "HTTP_PROXY" } else { "HTTPS_PROXY" }) else { return Ok(None) };
        let Ok(authority) = super::authority_of(server) else { return Ok(None) };
        if is_exempt(&authority, &value("NO_PROXY").unwrap_or_default()) {
            return Ok(None);
        }
        let url = if url.contains("://") { url } else { format!("http://{url}") };
        Proxy::parse(&url).map(Some)
    }

    /// `host:port` of the proxy itself.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The name that the proxy's own certificate is verified for; none if it is not reached by TLS.
    pub(super) fn tls_name(&self) -> Option<&str> {
        (self.kind == Kind::Https).then_some(&self.host)
    }

    /// Asks the proxy at the other end of `stream` for a connection to `host:port`.
    pub(super) async fn open(&self, stream: &mut dyn ByteStream, host: &str, port: u16) -> io::Result<()> {
        match self.kind {
            Kind::Socks5 => self.open_socks(stream, host, port).await,
            Kind::Http | Kind::Https => self.open_http(stream, host, port).await,
        }
    }

    async fn open_http(&self, stream: &mut dyn ByteStream, host: &str, port: u16) -> io::Result<()> {
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some((name, password)) = &self.user {
            let word = STANDARD.encode(format!("{name}:{password}"));
            request.push_str(&format!("Proxy-Authorization: Basic {word}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        // Byte by byte: what comes after the head belongs to the server.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HEAD {
                return Err(io::Error::new(ErrorKind::InvalidData, "the proxy's answer is too long"));
            }
            head.push(stream.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&head);
        let status = text.lines().next().unwrap_or_default();
        let mut words = status.splitn(3, ' ').skip(1);
        let (code, reason) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match code {
            "200" => Ok(()),
            _ if reason.is_empty() => Err(io::Error::other(format!("the proxy answers {status:?}"))),
            _ => Err(io::Error::other(reason.to_string())),
        }
    }

    async fn open_socks(&self, stream: &mut dyn ByteStream, host: &str, port: u16) -> io::Result<()> {
        let refused = |text: &str| io::Error::other(format!("socks connect: {text}"));
        let methods: &[u8] = if self.user.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
        stream.write_all(methods).await?;
        stream.flush().await?;
        let (version, method) = (stream.read_u8().await?, stream.read_u8().await?);
        match (version, method, &self.user) {
            (5, 0, _) => {}
            (5, 2, Some((name, password))) => {
                let mut login = vec![1];
                for word in [name, password] {
                    let length = u8::try_from(word.len())
                        .map_err(|_| refused("the user name or the password is too long"))?;
                    login.push(length);
                    login.extend_from_slice(word.as_bytes());
                }
                stream.write_all(&login).await?;
                stream.flush().await?;
                let _version = stream.read_u8().await?;
                if stream.read_u8().await? != 0 {
                    return Err(refused("username/password authentication failed"));
                }
            }
            (5, _, _) => return Err(refused("no acceptable authentication methods")),
            (other, ..) => return Err(refused(&format!("unexpected protocol version {other}"))),
        }
        let mut request = vec![5, 1, 0];
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                request.push(1);
                request.extend_from_slice(&address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                request.push(4);
                request.extend_from_slice(&address.octets());
            }
            Err(_) => {
                let length = u8::try_from(host.len()).map_err(|_| refused("FQDN too long"))?;
                request.extend_from_slice(&[3, length]);
                request.extend_from_slice(host.as_bytes());
            }
        }
        request.extend_from_slice(&port.to_be_bytes());
        stream.write_all(&request).await?;
        stream.flush().await?;
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        if head[1] != 0 {
            return Err(refused(socks_reply(head[1])));
        }
        let rest = match head[3] {
            1 => 4,
            4 => 16,
            3 => usize::from(stream.read_u8().await?),
            _ => return Err(refused("unknown address type")),
        };
        let mut bound = vec![0; rest + 2];
        stream.read_exact(&mut bound).await?;
        Ok(())
    }
}

fn socks_reply(code: u8) -> &'static str {
    match code {
        1 => "general SOCKS server failure",
        2 => "connection not allowed by ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unknown code",
    }
}

/// Whether a server is reached without the environment's proxy: loopback always, and what `NO_PROXY` lists
/// (`*`, addresses, networks, domains with everything below, each perhaps with a port).
fn is_exempt(authority: &str, list: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_lowercase();
    let port = authority.port_u16();
    let address = host.parse::<IpAddr>().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    list.split(',').map(|one| one.trim().to_lowercase()).filter(|one| !one.is_empty()).any(|one| {
        if one == "*" {
            return true;
        }
        if let (Some((network, bits)), Some(address)) = (one.split_once('/'), address) {
            return network
                .parse::<IpAddr>()
                .ok()
                .zip(bits.parse::<u8>().ok())
                .is_some_and(|(network, bits)| is_within(address, network, bits));
        }
        let (name, only) = match one.rsplit_once(':') {
            Some((name, digits)) if !name.contains(':') && digits.parse::<u16>().is_ok() => {
                (name.to_string(), digits.parse::<u16>().ok())
            }
            _ => (one.clone(), None),
        };
        if only.is_some() && only != port {
            return false;
        }
        let domain = name.trim_start_matches('*').trim_start_matches('.');
        let is_below = host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        // A leading dot means only what is below the domain.
        is_below || host == name
    })
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (own, other, width) = match (address, network) {
        (IpAddr::V4(own), IpAddr::V4(other)) => {
            (u128::from(own.to_bits()) << 96, u128::from(other.to_bits()) << 96, 32)
        }
        (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    let mask = if bits == 0 { 0 } else { u128::MAX << (128 - u32::from(bits.min(width))) };
    own & mask == other & mask
}

#[cfg(test)]
mod tests;
