//! What becomes of one request: counted, and told where somebody asked for it
//! (`--log info,ingress-access=debug`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::{Method, Uri, Version};

use crate::facts::Name;
use crate::metrics::{Answers, Metrics};

/// Dropped with the last byte of the answer, or when the client has gone.
pub(crate) struct Record {
    metrics: Arc<Metrics>,
    began: Instant,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) answers: Option<Arc<Answers>>,
    line: Option<Box<Line>>,
}

/// For the access log.
struct Line {
    client: IpAddr,
    method: Method,
    target: Uri,
    version: Version,
    host: String,
    ingress: Option<Name>,
    endpoint: Option<SocketAddr>,
}

impl Record {
    pub(crate) fn begin<B>(metrics: &Arc<Metrics>, client: IpAddr, request: &http::Request<B>) -> Self {
        let asked = tracing::enabled!(target: "ingress::access", tracing::Level::DEBUG);
        let line = asked.then(|| {
            Box::new(Line {
                client,
                method: request.method().clone(),
                target: request.uri().clone(),
                version: request.version(),
                host: String::new(),
                ingress: None,
                endpoint: None,
            })
        });
        Record { metrics: metrics.clone(), began: Instant::now(), status: 0, bytes: 0, answers: None, line }
    }

    pub(crate) fn led_to(&mut self, host: &str, ingress: Option<&Name>) {
        if let Some(line) = &mut self.line {
            line.host = host.to_string();
            line.ingress = ingress.cloned();
        }
    }

    pub(crate) fn asked(&mut self, endpoint: SocketAddr) {
        if let Some(line) = &mut self.line {
            line.endpoint = Some(endpoint);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        match &self.answers {
            Some(answers) => answers.count(self.status),
            None => self.metrics.unmatched.count(self.status),
        }
        self.metrics.observe(took);
        let Some(line) = &self.line else { return };
        let ingress = line.ingress.as_ref().map(|(namespace, name)| format!("{namespace}/{name}"));
        tracing::debug!(
            target: "ingress::access",
            client = %line.client,
            method = %line.method,
            host = line.host,
            target = %line.target,
            version = ?line.version,
            status = self.status,
            bytes = self.bytes,
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            ingress = ingress.as_deref().unwrap_or("-"),
            endpoint = line.endpoint.map(|it| it.to_string()).as_deref().unwrap_or("-"),
            "request"
        );
    }
}
