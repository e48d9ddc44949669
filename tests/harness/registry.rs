//! An image registry with one image: of every name, for everybody below `public/`, and below `private/` for
//! one user.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use base64::Engine;
use nix::sys::socket::{Shutdown, shutdown};
use serde_json::{Value, json};

use crate::Network;
use crate::image::{hex, parts};

/// Who may have private images.
pub const REGISTRY_USER: &str = "pat";
pub const REGISTRY_PASSWORD: &str = "secret-of-pat";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What each request asked for, such as `HEAD private/app manifests 401`.
type Log = Arc<Mutex<Vec<String>>>;

/// Ends with the value.
pub struct Registry {
    listener: TcpListener,
    address: String,
    log: Log,
}

impl Registry {
    /// Starts it on loopback in a network's first namespace, without TLS.
    pub fn start(network: &Network) -> Self {
        let listener = network.listen(0, "127.0.0.1:0");
        let address = format!("127.0.0.1:{}", listener.local_addr().expect("an address").port());
        let (layer, config) = parts().expect("busybox");
        // Another image than the one that is imported, which has the same content: who may have an image
        // goes by its identity.
        let mut config: Value = serde_json::from_str(&config).expect("a configuration");
        config["author"] = json!("the registry of a test");
        let config = config.to_string().into_bytes();
        let digest = |bytes: &[u8]| format!("sha256:{}", hex(bytes));
        let described = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": [described("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let content = Content {
            digest: digest(&manifest),
            blobs: [layer, config].into_iter().map(|bytes| (digest(&bytes), bytes)).collect(),
            manifest,
        };
        let (content, log) = (Arc::new(content), Log::default());
        let (accepting, noted) = (listener.try_clone().expect("the listener"), log.clone());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let (content, log) = (content.clone(), noted.clone());
                // A client that breaks off is the client's affair.
                std::thread::spawn(move || drop(content.answer(stream, &log)));
            }
        });
        Registry { listener, address, log }
    }

    /// `HOST:PORT`, as images' names begin.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What was asked for since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().expect("the log"))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

struct Content {
    manifest: Vec<u8>,
    digest: String,
    blobs: HashMap<String, Vec<u8>>,
}

impl Content {
    fn answer(&self, stream: TcpStream, log: &Log) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut first, mut credentials) = (String::new(), None);
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? <= 2 {
                break;
            }
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("authorization")
            {
                credentials = Some(value.trim().to_string());
            }
        }
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default().trim_start_matches("/v2/");
        let (name, what, reference) = match (path.split_once("/manifests/"), path.split_once("/blobs/")) {
            (Some((name, tag)), _) => (name, "manifests", tag),
            (None, Some((name, digest))) => (name, "blobs", digest),
            (None, None) => (path, "", ""),
        };
        let known =
            base64::engine::general_purpose::STANDARD.encode(format!("{REGISTRY_USER}:{REGISTRY_PASSWORD}"));
        let may = !name.starts_with("private/") || credentials == Some(format!("Basic {known}"));
        let found = match what {
            "manifests" => Some((MANIFEST, &self.digest, &self.manifest)),
            "blobs" => self
                .blobs
                .get_key_value(reference)
                .map(|(digest, bytes)| ("application/octet-stream", digest, bytes)),
            _ => None,
        };
        let (code, kind, digest, body) = match found {
            _ if !may => ("401 Unauthorized", "text/plain", "", &[][..]),
            Some((kind, digest, body)) => ("200 OK", kind, digest.as_str(), body.as_slice()),
            None => ("404 Not Found", "text/plain", "", &[][..]),
        };
        log.lock().expect("the log").push(format!("{method} {name} {what} {}", &code[..3]));
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {code}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n",
            body.len()
        )?;
        if !digest.is_empty() {
            write!(stream, "Docker-Content-Digest: {digest}\r\n")?;
        }
        if !may {
            write!(stream, "WWW-Authenticate: Basic realm=\"registry\"\r\n")?;
        }
        stream.write_all(b"\r\n")?;
        if method == "GET" {
            stream.write_all(body)?;
        }
        Ok(())
    }
}
