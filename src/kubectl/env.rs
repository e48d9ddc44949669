//! What every command works with: configuration, namespace, connection, and where output goes.

use std::io::{self, Write};
use std::time::Duration;

use client::HttpsApi;
use client::kubeconfig::{Loaded, Overrides, Places};
use tokio::sync::OnceCell;

use crate::age;
use crate::discovery::Discovery;
use crate::error::Result;
use crate::global::Global;
use crate::rest::Rest;

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
            let mut config = self.loaded.merged.https_config(&self.overrides)?;
            config.user_agent = client::https::user_agent("kubectl");
            let api = HttpsApi::new(config)?;
            Ok(Rest::new(api, self.timeout()?, self.global.verbosity, self.global.warnings_as_errors))
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
        Ok(self.loaded.merged.https_config(&self.overrides)?.server)
    }
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
