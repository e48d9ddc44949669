//! What every command works with: configuration, namespace, connection, and where output goes.

use std::io::{self, Write};
use std::time::Duration;

use client::HttpsApi;
use client::https::Token;
use client::kubeconfig::{Loaded, Overrides, Places};
use tokio::sync::OnceCell;

use crate::age;
use crate::discovery::Discovery;
use crate::error::Result;
use crate::global::Global;
use crate::rest::{Options, Rest};
use crate::trace::Trace;

pub(crate) struct Env {
    pub(crate) global: Global,
    pub(crate) loaded: Loaded,
    pub(crate) overrides: Overrides,
    /// The namespace to work in.
    pub(crate) namespace: String,
    rest: OnceCell<Rest>,
    discovery: OnceCell<Discovery>,
}

impl Env {
    pub(crate) fn new(global: Global) -> Result<Self> {
        let loaded = Loaded::load(&Places::from_environment(global.kubeconfig.as_deref()))?;
        let overrides = Overrides {
            context: global.context.clone(),
            cluster: global.cluster.clone(),
            user: global.user.clone(),
            namespace: global.namespace.clone(),
            server: global.server.clone(),
            token: global.token.clone(),
            certificate_authority: global.certificate_authority.clone(),
            client_certificate: global.client_certificate.clone(),
            client_key: global.client_key.clone(),
            tls_server_name: global.tls_server_name.clone(),
            insecure_skip_tls_verify: global.insecure_skip_tls_verify.unwrap_or(false),
            impersonate: global.impersonate.clone(),
            impersonate_groups: global.impersonate_groups.clone(),
            impersonate_uid: global.impersonate_uid.clone(),
            impersonate_extra: global.impersonate_extra.clone(),
            username: global.username.clone(),
            password: global.password.clone(),
            plugin_policy: global.plugin_policy.clone(),
        };
        let namespace = loaded.merged.namespace(&overrides);
        Ok(Env { global, loaded, overrides, namespace, rest: OnceCell::new(), discovery: OnceCell::new() })
    }

    /// Whether the user named the namespace on the command line: then it must match that of files.
    pub(crate) fn namespace_is_explicit(&self) -> bool {
        self.global.namespace.as_deref().is_some_and(|name| !name.is_empty())
    }

    /// `--request-timeout`; a bare number means seconds.
    fn timeout(&self) -> Result<Option<Duration>> {
        let text = &self.global.request_timeout;
        let parsed = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => age::parse(text)?,
        };
        Ok(Some(parsed).filter(|limit| !limit.is_zero()))
    }

    pub(crate) async fn rest(&self) -> Result<&Rest> {
        let make = || async {
            let mut config = self.loaded.https_config(&self.overrides)?;
            config.user_agent = client::https::user_agent("kubectl");
            let options = Options {
                timeout: self.timeout()?,
                trace: Trace {
                    level: self.global.verbosity,
                    server: config.server.trim_end_matches('/').to_string(),
                    headers: shown_headers(&config),
                },
                warnings_as_errors: self.global.warnings_as_errors,
                compress: !self.global.disable_compression
                    && !self.loaded.merged.disables_compression(&self.overrides)
                    && !is_local(&config.server),
            };
            Ok(Rest::new(HttpsApi::new(config)?, options))
        };
        self.rest.get_or_try_init(make).await
    }

    /// The connection, if a command needed one.
    pub(crate) fn rest_if_used(&self) -> Option<&Rest> {
        self.rest.get()
    }

    /// What the server offers. Asked for only if a built-in kind does not answer the question.
    pub(crate) async fn discovery(&self) -> Result<&Discovery> {
        self.discovery.get_or_try_init(|| async { Discovery::fetch(self.rest().await?).await }).await
    }

    /// URL of the server, for messages.
    pub(crate) fn server(&self) -> Result<String> {
        Ok(self.loaded.merged.server(&self.overrides)?)
    }
}

/// A server on this machine: compressing what it sends would cost more than it saves.
fn is_local(server: &str) -> bool {
    let authority = client::https::authority_of(server).unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Headers of every request, for logs; secrets are masked.
fn shown_headers(config: &client::HttpsConfig) -> Vec<(String, String)> {
    let mut headers = config.headers.clone();
    headers.push(("User-Agent".to_string(), config.user_agent.clone()));
    match config.token {
        Token::None => {}
        Token::Basic(..) => headers.push(("Authorization".to_string(), "Basic <masked>".to_string())),
        _ => headers.push(("Authorization".to_string(), "Bearer <masked>".to_string())),
    }
    headers
}

/// Writes to standard output; a closed pipe is an error that ends the command quietly.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

pub(crate) fn print_line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Writes a line to standard error, where messages go that are no output.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
