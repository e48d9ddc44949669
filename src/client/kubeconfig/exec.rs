//! Exec plugins: programs that print credentials (`client.authentication.k8s.io`), as client-go runs them.
//!
//! Credentials are kept until they expire or the server refuses them; a program that runs for long asks the
//! plugin again. A policy, from the user's preferences, says which plugins may run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::Mutex as AsyncMutex;

use super::KubeconfigError;
use crate::BoxFuture;
use crate::https::{ClientCertificate, Credential, CredentialError, CredentialSource};

const GROUP: &str = "client.authentication.k8s.io";

/// `exec` of a user.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExecConfig {
    command: String,
    args: Option<Vec<String>>,
    env: Option<Vec<EnvVar>>,
    api_version: String,
    install_hint: Option<String>,
    provide_cluster_info: bool,
    interactive_mode: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct EnvVar {
    name: String,
    value: String,
}

/// Which plugins may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PluginPolicy {
    #[default]
    AllowAll,
    DenyAll,
    /// Only these commands, as they are written or as they are found on the path.
    Allowlist(Vec<String>),
}

/// A plugin, ready to run.
#[derive(Debug)]
pub(super) struct Plugin {
    config: ExecConfig,
    policy: PluginPolicy,
    /// `spec.cluster` of what the plugin is told, if it wants to know.
    cluster: Option<Value>,
    /// Keeps the plugin from being run twice at a time.
    running: AsyncMutex<()>,
    kept: Mutex<Option<Kept>>,
}

#[derive(Clone, Debug)]
struct Kept {
    credential: Arc<Credential>,
    expires: Option<Timestamp>,
}

const NOT_INSTALLED: &str = "

It looks like you are trying to use a client-go credential plugin that is not installed.

To learn more about this feature, consult the documentation available at:
      https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins";

fn failed(text: impl Into<String>) -> CredentialError {
    CredentialError(format!("getting credentials: {}", text.into()))
}

impl Plugin {
    pub(super) fn new(
        user: &str,
        exec: &serde_yaml::Value,
        policy: PluginPolicy,
        cluster: Value,
    ) -> Result<Self, KubeconfigError> {
        let wrong = |text: String| KubeconfigError::Half(text);
        let config: ExecConfig = serde_yaml::from_value(exec.clone())
            .map_err(|source| KubeconfigError::Entry { kind: "user", name: user.to_string(), source })?;
        if config.command.is_empty() {
            return Err(wrong(format!(
                "invalid configuration: command must be specified for {user} to use exec authentication plugin"
            )));
        }
        if config.api_version.is_empty() {
            return Err(wrong(format!(
                "invalid configuration: apiVersion must be specified for {user} to use exec authentication plugin"
            )));
        }
        if !matches!(config.api_version.strip_prefix(GROUP), Some("/v1" | "/v1beta1")) {
            return Err(wrong(format!("exec plugin: invalid apiVersion {:?}", config.api_version)));
        }
        match config.interactive_mode.as_deref() {
            Some("Never" | "IfAvailable" | "Always") => {}
            None | Some("") if config.api_version.ends_with("/v1beta1") => {}
            None | Some("") => {
                return Err(wrong(format!(
                    "invalid configuration: interactiveMode must be specified for {user} to use exec authentication plugin"
                )));
            }
            Some(other) => {
                return Err(wrong(format!(
                    "invalid configuration: invalid interactiveMode for {user}: {other:?}"
                )));
            }
        }
        let cluster = config.provide_cluster_info.then_some(cluster);
        Ok(Plugin { config, policy, cluster, running: AsyncMutex::new(()), kept: Mutex::new(None) })
    }

    fn good(&self) -> Option<Arc<Credential>> {
        let kept = self.kept.lock();
        let is_good = |kept: &&Kept| kept.expires.is_none_or(|at| Timestamp::now() <= at);
        kept.as_ref().filter(is_good).map(|kept| kept.credential.clone())
    }

    /// Whether the plugin may ask the user.
    fn is_interactive(&self) -> Result<bool, CredentialError> {
        use std::io::IsTerminal;
        let terminal = std::io::stdin().is_terminal();
        match self.config.interactive_mode.as_deref() {
            Some("Never") => Ok(false),
            Some("Always") if !terminal => {
                Err(failed("exec plugin cannot support interactive mode: standard input is not a terminal"))
            }
            _ => Ok(terminal),
        }
    }

    async fn run(&self) -> Result<Kept, CredentialError> {
        let interactive = self.is_interactive()?;
        let mut spec = json!({"interactive": interactive});
        if let Some(cluster) = &self.cluster {
            spec["cluster"] = cluster.clone();
        }
        let info = json!({"kind": "ExecCredential", "apiVersion": self.config.api_version, "spec": spec});
        let name = clean(&self.config.command);
        let program = self.permitted(&name)?;
        let mut command = Command::new(program);
        command.args(self.config.args.iter().flatten());
        command.envs(self.config.env.iter().flatten().map(|one| (&one.name, &one.value)));
        command.env("KUBERNETES_EXEC_INFO", info.to_string());
        command.stdin(if interactive { Stdio::inherit() } else { Stdio::null() });
        command.stderr(Stdio::inherit()).stdout(Stdio::piped()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                let hint = self.config.install_hint.as_deref().filter(|hint| !hint.is_empty());
                let hint = hint.map(|hint| format!("\n\n{hint}")).unwrap_or_default();
                failed(format!("exec: executable {name} not found{NOT_INSTALLED}{hint}"))
            }
            _ => failed(format!("exec: {error}")),
        })?;
        if !output.status.success() {
            let code = output.status.code().unwrap_or(-1);
            return Err(failed(format!("exec: executable {name} failed with exit code {code}")));
        }
        read(&output.stdout, &self.config.api_version)
    }

    /// The program to run, if the policy lets it run.
    fn permitted(&self, name: &str) -> Result<PathBuf, CredentialError> {
        let list = match &self.policy {
            PluginPolicy::AllowAll => return Ok(PathBuf::from(name)),
            PluginPolicy::DenyAll => {
                return Err(failed(format!("plugin {name:?} not allowed: policy set to \"DenyAll\"")));
            }
            PluginPolicy::Allowlist(list) => list,
        };
        let Some(found) = look_up(name) else {
            return Err(failed(format!(
                "plugin path {name:?} cannot be resolved for credential plugin allowlist check: exec: {name:?}: executable file not found in $PATH"
            )));
        };
        let is_listed = |one: &String| {
            one == name || Path::new(one) == found || look_up(one).is_some_and(|other| other == found)
        };
        if list.iter().any(is_listed) {
            return Ok(found);
        }
        let shown = found.display().to_string();
        Err(failed(format!("plugin path {shown:?} is not permitted by the credential plugin allowlist")))
    }
}

/// A path without what is superfluous in it; a bare name stays one.
fn clean(command: &str) -> String {
    if !command.contains('/') {
        return command.to_string();
    }
    let cleaned: PathBuf = Path::new(command).components().collect();
    cleaned.display().to_string()
}

/// Where a command is: on the path, if it is a bare name.
fn look_up(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(is_program);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(is_program)
}

/// The credentials that a plugin printed.
fn read(stdout: &[u8], version: &str) -> Result<Kept, CredentialError> {
    let answer: Value =
        serde_json::from_slice(stdout).map_err(|error| failed(format!("decoding stdout: {error}")))?;
    if answer["kind"] != "ExecCredential" {
        return Err(failed(format!("decoding stdout: no kind {} is registered", answer["kind"])));
    }
    let own = answer["apiVersion"].as_str().unwrap_or_default();
    if own != version {
        return Err(failed(format!(
            "exec plugin is configured to use API version {version}, plugin returned version {own}"
        )));
    }
    let status = &answer["status"];
    if !status.is_object() {
        return Err(failed("exec plugin didn't return a status field"));
    }
    let text = |key: &str| status[key].as_str().filter(|text| !text.is_empty()).map(str::to_string);
    let (token, certificate, key) = (text("token"), text("clientCertificateData"), text("clientKeyData"));
    let certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Some(ClientCertificate { certificate_pem: certificate.into_bytes(), key_pem: key.into_bytes() })
        }
        (None, None) if token.is_none() => {
            return Err(failed("exec plugin didn't return a token or cert/key pair"));
        }
        (None, None) => None,
        _ => return Err(failed("exec plugin returned only certificate or key, not both")),
    };
    let expires = match text("expirationTimestamp") {
        Some(text) => Some(text.parse().map_err(|error| failed(format!("decoding stdout: {error}")))?),
        None => None,
    };
    Ok(Kept { credential: Arc::new(Credential { token, certificate }), expires })
}

impl CredentialSource for Plugin {
    fn current(&self) -> BoxFuture<'_, Result<Arc<Credential>, CredentialError>> {
        Box::pin(async {
            if let Some(credential) = self.good() {
                return Ok(credential);
            }
            let _running = self.running.lock().await;
            if let Some(credential) = self.good() {
                return Ok(credential);
            }
            let kept = self.run().await?;
            *self.kept.lock() = Some(kept.clone());
            Ok(kept.credential)
        })
    }

    fn refused(&self, credential: &Arc<Credential>) {
        let mut kept = self.kept.lock();
        // Another request may have obtained new ones meanwhile.
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.credential, credential)) {
            *kept = None;
        }
    }
}

#[cfg(test)]
mod tests;
