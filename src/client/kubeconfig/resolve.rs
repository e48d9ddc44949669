//! From a context (and flags that override it) to the configuration of a client.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::exec::Plugin;
use super::oidc::Oidc;
use super::{Cluster, Kubeconfig, KubeconfigError, Loaded, PluginPolicy, User};
use crate::https::{ClientCertificate, HttpsConfig, Proxy, Token};

/// Flags that take precedence over the files, by kubectl's names.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub context: Option<String>,
    pub cluster: Option<String>,
    pub user: Option<String>,
    pub namespace: Option<String>,
    pub server: Option<String>,
    pub token: Option<String>,
    pub certificate_authority: Option<String>,
    pub client_certificate: Option<String>,
    pub client_key: Option<String>,
    pub tls_server_name: Option<String>,
    pub insecure_skip_tls_verify: bool,
    pub impersonate: Option<String>,
    pub impersonate_groups: Vec<String>,
    pub impersonate_uid: Option<String>,
    /// `KEY=VALUE`.
    pub impersonate_extra: Vec<String>,
    pub username: Option<String>,
    pub password: Option<String>,
    /// Which exec plugins may run.
    pub plugin_policy: PluginPolicy,
}

/// Where a pod finds its service account.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Kubeconfig {
    /// The namespace to use: the flag's, the context's, else `default`.
    pub fn namespace(&self, overrides: &Overrides) -> String {
        let of_context = || {
            let name = overrides.context.as_deref().unwrap_or(&self.current_context);
            self.context(name).and_then(|context| context.namespace.clone()).filter(|name| !name.is_empty())
        };
        let own = overrides.namespace.clone().filter(|name| !name.is_empty());
        own.or_else(of_context).or_else(in_cluster_namespace).unwrap_or_else(|| "default".to_string())
    }

    /// The server's URL.
    pub fn server(&self, overrides: &Overrides) -> Result<String, KubeconfigError> {
        self.resolved(overrides, None).map(|config| config.server)
    }

    /// Whether answers are to be sent as they are.
    pub fn disables_compression(&self, overrides: &Overrides) -> bool {
        let context = self.context(overrides.context.as_deref().unwrap_or(&self.current_context));
        let name = overrides.cluster.as_deref().or(context.map(|context| context.cluster.as_str()));
        let cluster = name.and_then(|name| self.cluster(name));
        cluster.and_then(|cluster| cluster.disable_compression).unwrap_or(false)
    }

    /// How to reach and convince the server. Without any configuration: the pod's own service account, else
    /// `http://localhost:8080` as kubectl does. Tokens that are renewed are not written back; see
    /// [`Loaded::https_config`].
    pub fn https_config(&self, overrides: &Overrides) -> Result<HttpsConfig, KubeconfigError> {
        self.resolved(overrides, None)
    }

    fn resolved(
        &self,
        overrides: &Overrides,
        files: Option<&Loaded>,
    ) -> Result<HttpsConfig, KubeconfigError> {
        let context_name = overrides.context.as_deref().unwrap_or(&self.current_context);
        let context = match self.context(context_name) {
            Some(context) => Some(context),
            None if context_name.is_empty() => None,
            None => return Err(KubeconfigError::NoContext(context_name.to_string())),
        };
        if context.is_none()
            && overrides.server.is_none()
            && self.clusters.is_empty()
            && let Some(config) = in_cluster()
        {
            return Ok(config);
        }
        let cluster_name = overrides.cluster.as_deref().or(context.map(|context| context.cluster.as_str()));
        let user_name = overrides.user.as_deref().or(context.map(|context| context.user.as_str()));
        let mut config = self.with_cluster(cluster_name.unwrap_or_default(), overrides)?;
        self.add_user(&mut config, user_name.unwrap_or_default(), overrides, files)?;
        let name = user_name.unwrap_or_default();
        impersonate(&mut config, name, self.user(name), overrides)?;
        Ok(config)
    }

    fn with_cluster(&self, name: &str, overrides: &Overrides) -> Result<HttpsConfig, KubeconfigError> {
        let none = Cluster::default();
        let cluster = match self.cluster(name) {
            Some(cluster) => cluster,
            None if name.is_empty() => &none,
            None => return Err(KubeconfigError::NoCluster(name.to_string())),
        };
        let server = match &overrides.server {
            Some(server) => server.clone(),
            None if !cluster.server.is_empty() => cluster.server.clone(),
            None if name.is_empty() => "http://localhost:8080".to_string(),
            None => return Err(KubeconfigError::NoServer(name.to_string())),
        };
        let proxy = match cluster.proxy_url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => Proxy::parse(url).map(Some),
            None => Proxy::from_environment(&server),
        };
        let mut config = HttpsConfig::new(server);
        config.proxy =
            proxy.map_err(|source| KubeconfigError::Proxy { cluster: name.to_string(), source })?;
        config.insecure_skip_tls_verify =
            overrides.insecure_skip_tls_verify || cluster.insecure_skip_tls_verify.unwrap_or(false);
        config.tls_server_name =
            overrides.tls_server_name.clone().or_else(|| cluster.tls_server_name.clone());
        let authority = Source {
            what: "certificate-authority",
            of: name,
            file: overrides
                .certificate_authority
                .as_deref()
                .map(Path::new)
                .or(cluster.certificate_authority.as_deref()),
            data: cluster
                .certificate_authority_data
                .as_deref()
                .filter(|_| overrides.certificate_authority.is_none()),
        };
        if !config.insecure_skip_tls_verify {
            config.ca_pem = authority.read()?;
        }
        Ok(config)
    }

    fn add_user(
        &self,
        config: &mut HttpsConfig,
        name: &str,
        overrides: &Overrides,
        files: Option<&Loaded>,
    ) -> Result<(), KubeconfigError> {
        let none = User::default();
        let user = match self.user(name) {
            Some(user) => user,
            None if name.is_empty() => &none,
            None => return Err(KubeconfigError::NoUser(name.to_string())),
        };
        if let Some(token) =
            overrides.token.as_ref().or(user.token.as_ref()).filter(|token| !token.is_empty())
        {
            config.token = Token::Static(token.clone());
        } else if let Some(path) = &user.token_file {
            config.token = Token::File(path.clone());
        }
        let certificate = Source {
            what: "client-cert",
            of: name,
            file: overrides
                .client_certificate
                .as_deref()
                .map(Path::new)
                .or(user.client_certificate.as_deref()),
            data: user.client_certificate_data.as_deref().filter(|_| overrides.client_certificate.is_none()),
        };
        let key = Source {
            what: "client-key",
            of: name,
            file: overrides.client_key.as_deref().map(Path::new).or(user.client_key.as_deref()),
            data: user.client_key_data.as_deref().filter(|_| overrides.client_key.is_none()),
        };
        config.certificate = match (certificate.read()?, key.read()?) {
            (Some(certificate_pem), Some(key_pem)) => Some(ClientCertificate { certificate_pem, key_pem }),
            (None, None) => None,
            (Some(_), None) => {
                let text = format!(
                    "client-key-data or client-key must be specified for {name} to use the clientCert authentication method."
                );
                return Err(KubeconfigError::Half(text));
            }
            (None, Some(_)) => {
                let text = format!(
                    "client-cert-data or client-cert must be specified for {name} to use the clientCert authentication method."
                );
                return Err(KubeconfigError::Half(text));
            }
        };
        if config.certificate.is_some() || !matches!(config.token, Token::None) {
            return Ok(());
        }
        let username = overrides.username.as_ref().or(user.username.as_ref()).filter(|name| !name.is_empty());
        if let Some(username) = username {
            let password = overrides.password.as_ref().or(user.password.as_ref());
            config.token = Token::Basic(username.clone(), password.cloned().unwrap_or_default());
        } else if let Some(exec) = &user.exec {
            let cluster = told_of(config);
            let plugin = Plugin::new(name, exec, overrides.plugin_policy.clone(), cluster)?;
            config.token = Token::Source(Arc::new(plugin));
        } else if let Some(provider) = &user.auth_provider {
            config.token = Token::Source(Arc::new(Oidc::new(name, provider, files.cloned())?));
        }
        Ok(())
    }
}

impl Loaded {
    /// As [`Kubeconfig::https_config`]; tokens that are renewed are written to the file that has the user.
    pub fn https_config(&self, overrides: &Overrides) -> Result<HttpsConfig, KubeconfigError> {
        self.merged.resolved(overrides, Some(self))
    }
}

/// What an exec plugin is told of the cluster.
fn told_of(config: &HttpsConfig) -> Value {
    let mut cluster = json!({"server": config.server, "config": null});
    if let Some(name) = &config.tls_server_name {
        cluster["tls-server-name"] = json!(name);
    }
    if config.insecure_skip_tls_verify {
        cluster["insecure-skip-tls-verify"] = json!(true);
    }
    if let Some(pem) = &config.ca_pem {
        cluster["certificate-authority-data"] = json!(STANDARD.encode(pem));
    }
    cluster
}

/// Headers that name whom to act as: the flags', else those of the kubeconfig's user.
fn impersonate(
    config: &mut HttpsConfig,
    name: &str,
    user: Option<&User>,
    overrides: &Overrides,
) -> Result<(), KubeconfigError> {
    let of_file = |key: &str| user.and_then(|user| user.extra.get(key));
    let text = |key: &str| of_file(key).and_then(|value| value.as_str()).map(str::to_string);
    let texts = |value: &serde_yaml::Value| -> Vec<String> {
        value.as_sequence().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_string)).collect()
    };
    let set = |one: &Option<String>| one.clone().filter(|one| !one.is_empty());
    let whom = set(&overrides.impersonate).or_else(|| set(&text("as")));
    let uid = set(&overrides.impersonate_uid).or_else(|| set(&text("as-uid")));
    let mut groups = overrides.impersonate_groups.clone();
    if groups.is_empty() {
        groups = of_file("as-groups").map(texts).unwrap_or_default();
    }
    let mut extra = Vec::new();
    for pair in &overrides.impersonate_extra {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(KubeconfigError::Half(format!(
                "malformed user-extra argument, expected 'key=value', got {pair:?}"
            )));
        };
        extra.push((key.to_string(), value.to_string()));
    }
    if extra.is_empty() {
        let map = of_file("as-user-extra").and_then(|value| value.as_mapping());
        for (key, values) in map.into_iter().flatten() {
            let key = key.as_str().unwrap_or_default();
            extra.extend(texts(values).into_iter().map(|value| (key.to_string(), value)));
        }
    }
    if whom.is_none() && (uid.is_some() || !groups.is_empty() || !extra.is_empty()) {
        return Err(KubeconfigError::Half(format!(
            "invalid configuration: requesting uid, groups or user-extra for {name} without impersonating a user"
        )));
    }
    let mut add = |key: String, value: String| config.headers.push((key, value));
    whom.into_iter().for_each(|user| add("Impersonate-User".to_string(), user));
    uid.into_iter().for_each(|uid| add("Impersonate-Uid".to_string(), uid));
    groups.into_iter().for_each(|group| add("Impersonate-Group".to_string(), group));
    for (key, value) in extra {
        add(format!("Impersonate-Extra-{}", crate::https::encode_component(&key)), value);
    }
    Ok(())
}

/// PEM that is given in line (base64) or by a file; in line wins.
struct Source<'a> {
    what: &'static str,
    of: &'a str,
    file: Option<&'a Path>,
    data: Option<&'a str>,
}

impl Source<'_> {
    fn read(&self) -> Result<Option<Vec<u8>>, KubeconfigError> {
        if let Some(data) = self.data.filter(|data| !data.is_empty()) {
            let packed: String = data.split_whitespace().collect();
            let decoded = STANDARD.decode(packed);
            let what = self.what;
            return decoded.map(Some).map_err(|_| KubeconfigError::Base64 { what, of: self.of.to_string() });
        }
        let Some(path) = self.file.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
        std::fs::read(path).map(Some).map_err(|source| KubeconfigError::Data {
            what: self.what,
            of: self.of.to_string(),
            path: path.to_path_buf(),
            source,
        })
    }
}

fn in_cluster_namespace() -> Option<String> {
    let _ = std::env::var_os("KUBERNETES_SERVICE_HOST")?;
    let text = std::fs::read_to_string(Path::new(IN_CLUSTER).join("namespace")).ok()?;
    Some(text.trim().to_string()).filter(|name| !name.is_empty())
}

fn in_cluster() -> Option<HttpsConfig> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").ok()?;
    let directory = Path::new(IN_CLUSTER);
    let ca_pem = std::fs::read(directory.join("ca.crt")).ok()?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let mut config = HttpsConfig::new(format!("https://{host}:{port}"));
    config.ca_pem = Some(ca_pem);
    config.token = Token::File(directory.join("token"));
    Some(config)
}
