//! `kubectl config set-cluster` and `set-credentials`: entries from flags.
//!
//! The flags that upstream shares with its global ones (`--server`, `--token`, `--client-key` …) are read
//! from there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use client::kubeconfig::{Cluster, Loaded, NamedCluster, NamedUser, User};
use serde_yaml::{Mapping, Value};

use crate::env::print;
use crate::error::{Error, Result};
use crate::global::Global;

#[derive(Args)]
pub(super) struct ClusterArgs {
    name: String,
    /// Put the content of the certificate authority's file into the kubeconfig
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    embed_certs: Option<bool>,
    /// URL of a proxy to reach the cluster through
    #[arg(long)]
    proxy_url: Option<String>,
}

#[derive(Args)]
pub(super) struct CredentialsArgs {
    name: String,
    /// Put the content of the certificate's and the key's file into the kubeconfig
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    embed_certs: Option<bool>,
    /// User name of basic authentication
    #[arg(long)]
    username: Option<String>,
    /// Password of basic authentication
    #[arg(long)]
    password: Option<String>,
    /// Name of the auth provider
    #[arg(long)]
    auth_provider: Option<String>,
    /// key=value for the auth provider; `key-` removes
    #[arg(long, value_delimiter = ',')]
    auth_provider_arg: Vec<String>,
    /// Command of the exec credential plugin
    #[arg(long)]
    exec_command: Option<String>,
    /// API version of the exec credential plugin
    #[arg(long)]
    exec_api_version: Option<String>,
    /// When the exec credential plugin may use standard input: IfAvailable, Never or Always
    #[arg(long)]
    exec_interactive_mode: Option<String>,
    /// Whether the exec credential plugin is told about the cluster
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    exec_provide_cluster_info: Option<bool>,
    /// Arguments of the exec credential plugin
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    exec_arg: Vec<String>,
    /// name=value for the environment of the exec credential plugin; `name-` removes
    #[arg(long)]
    exec_env: Vec<String>,
}

pub(super) fn set_cluster(global: &Global, loaded: &mut Loaded, args: &ClusterArgs) -> Result<()> {
    if args.name.is_empty() {
        return Err(Error::message("you must specify a non-empty cluster name"));
    }
    let authority = global.certificate_authority.as_deref();
    let insecure = global.insecure_skip_tls_verify;
    if insecure == Some(true) && authority.is_some_and(|path| !path.is_empty()) {
        return Err(Error::message(
            "you cannot specify a certificate authority and insecure mode at the same time",
        ));
    }
    let embedded = match (args.embed_certs == Some(true), authority.filter(|path| !path.is_empty())) {
        (false, _) => None,
        (true, Some(path)) => Some(embedded("certificate-authority", path)?),
        (true, None) => return Err(Error::message("you must specify a --certificate-authority to embed")),
    };
    let path = authority.map(absolute).transpose()?;
    loaded.set::<NamedCluster>(&args.name, |cluster| {
        change_cluster(cluster, global, args, embedded.as_deref(), path.as_deref());
    })?;
    print(&format!("Cluster {:?} set.\n", args.name))
}

fn change_cluster(
    cluster: &mut Cluster,
    global: &Global,
    args: &ClusterArgs,
    embedded: Option<&str>,
    authority: Option<&Path>,
) {
    if let Some(server) = &global.server {
        cluster.server.clone_from(server);
        // The name belongs to the server that was there.
        cluster.tls_server_name = None;
    }
    if let Some(name) = &global.tls_server_name {
        cluster.tls_server_name = filled(name);
    }
    if let Some(insecure) = global.insecure_skip_tls_verify {
        cluster.insecure_skip_tls_verify = Some(insecure).filter(|insecure| *insecure);
        if insecure {
            cluster.certificate_authority = None;
            cluster.certificate_authority_data = None;
        }
    }
    match (embedded, authority) {
        (Some(data), _) => {
            cluster.certificate_authority_data = Some(data.to_string());
            cluster.insecure_skip_tls_verify = None;
            cluster.certificate_authority = None;
        }
        (None, Some(path)) => {
            cluster.certificate_authority = Some(path.to_path_buf());
            cluster.insecure_skip_tls_verify = None;
            cluster.certificate_authority_data = None;
        }
        (None, None) => {}
    }
    if let Some(url) = &args.proxy_url {
        cluster.proxy_url = filled(url);
    }
}

pub(super) fn set_credentials(global: &Global, loaded: &mut Loaded, args: &CredentialsArgs) -> Result<()> {
    check_credentials(global, args)?;
    let file = |what: &str, given: &Option<String>| -> Result<Option<File>> {
        let Some(path) = given else { return Ok(None) };
        Ok(Some(match args.embed_certs {
            Some(true) if !path.is_empty() => File::Embedded(embedded(what, path)?),
            _ => File::Path(absolute(path)?),
        }))
    };
    let certificate = file("client-certificate", &global.client_certificate)?;
    let key = file("client-key", &global.client_key)?;
    let provider_arguments = pairs(&args.auth_provider_arg, "auth-provider-arg")?;
    let environment = pairs(&args.exec_env, "exec-env")?;
    loaded.set::<NamedUser>(&args.name, |user| {
        if let Some(file) = &certificate {
            file.store(&mut user.client_certificate, &mut user.client_certificate_data);
        }
        if let Some(file) = &key {
            file.store(&mut user.client_key, &mut user.client_key_data);
        }
        change_secrets(user, global, args);
        change_provider(user, args, &provider_arguments);
        change_exec(user, args, &environment);
    })?;
    print(&format!("User {:?} set.\n", args.name))
}

fn check_credentials(global: &Global, args: &CredentialsArgs) -> Result<()> {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if args.name.is_empty() {
        return Err(Error::message("you must specify a non-empty user name"));
    }
    if given(&global.token) && (given(&args.username) || given(&args.password)) {
        return Err(Error::message(
            "you cannot specify more than one authentication method at the same time: --token, --username/--password",
        ));
    }
    if args.embed_certs == Some(true) && !given(&global.client_certificate) && !given(&global.client_key) {
        return Err(Error::message("you must specify a --client-certificate or --client-key to embed"));
    }
    match args.exec_interactive_mode.as_deref() {
        None | Some("IfAvailable" | "Always" | "Never") => Ok(()),
        Some(_) => {
            Err(Error::message("invalid interactive mode type, can be only IfAvailable, Never, Always"))
        }
    }
}

/// A token and basic authentication exclude each other: setting one clears the other.
fn change_secrets(user: &mut User, global: &Global, args: &CredentialsArgs) {
    let set = |into: &mut Option<String>, from: &Option<String>| match from {
        Some(text) => {
            *into = filled(text);
            into.is_some()
        }
        None => false,
    };
    let token = set(&mut user.token, &global.token);
    let name = set(&mut user.username, &args.username);
    let password = set(&mut user.password, &args.password);
    match (token, name || password) {
        (true, false) => {
            user.username = None;
            user.password = None;
        }
        (false, true) => user.token = None,
        _ => {}
    }
}

fn change_provider(user: &mut User, args: &CredentialsArgs, arguments: &Pairs) {
    if let Some(name) = &args.auth_provider
        && user.auth_provider.as_ref().is_none_or(|provider| provider["name"] != name.as_str())
    {
        user.auth_provider = Some(Value::Mapping(Mapping::from_iter([text_entry("name", name)])));
    }
    let Some(Value::Mapping(provider)) = &mut user.auth_provider else { return };
    if arguments.set.is_empty() && arguments.removed.is_empty() {
        return;
    }
    let config = provider.entry(Value::from("config")).or_insert(Value::Null);
    if !config.is_mapping() {
        *config = Value::Mapping(Mapping::new());
    }
    let Value::Mapping(config) = config else { return };
    for name in &arguments.removed {
        config.remove(name.as_str());
    }
    config.extend(arguments.set.iter().map(|(name, value)| text_entry(name, value)));
}

/// What concerns the plugin is left alone unless there is a plugin.
fn change_exec(user: &mut User, args: &CredentialsArgs, environment: &Pairs) {
    if let Some(command) = &args.exec_command {
        let exec = user.exec.get_or_insert_with(|| Value::Mapping(Mapping::new()));
        if let Value::Mapping(exec) = exec {
            exec.extend([text_entry("command", command)]);
            exec.remove("args");
        }
    }
    let Some(Value::Mapping(exec)) = &mut user.exec else { return };
    if let Some(version) = &args.exec_api_version {
        exec.extend([text_entry("apiVersion", version)]);
    }
    if !args.exec_arg.is_empty() {
        let arguments = args.exec_arg.iter().map(|text| Value::from(text.as_str())).collect();
        exec.insert(Value::from("args"), Value::Sequence(arguments));
    }
    if let Some(mode) = &args.exec_interactive_mode {
        exec.extend([text_entry("interactiveMode", mode)]);
    }
    if let Some(provide) = args.exec_provide_cluster_info {
        exec.insert(Value::from("provideClusterInfo"), Value::from(provide));
    }
    if environment.set.is_empty() && environment.removed.is_empty() {
        return;
    }
    let mut variables = match exec.remove("env") {
        Some(Value::Sequence(variables)) => variables,
        _ => Vec::new(),
    };
    variables.retain(|one| {
        !one["name"].as_str().is_some_and(|name| environment.removed.iter().any(|r| r == name))
    });
    for (name, value) in &environment.set {
        let known = variables.iter_mut().find(|one| one["name"].as_str() == Some(name));
        match known {
            Some(Value::Mapping(variable)) => variable.extend([text_entry("value", value)]),
            _ => variables.push(Value::Mapping(Mapping::from_iter([
                text_entry("name", name),
                text_entry("value", value),
            ]))),
        }
    }
    exec.insert(Value::from("env"), Value::Sequence(variables));
}

/// What a flag with a file's path comes to.
enum File {
    Path(PathBuf),
    /// The file's content in base64.
    Embedded(String),
}

impl File {
    fn store(&self, path: &mut Option<PathBuf>, data: &mut Option<String>) {
        match self {
            File::Embedded(content) => {
                *data = Some(content.clone());
                *path = None;
            }
            File::Path(file) => {
                *path = Some(file.clone());
                *data = None;
            }
        }
    }
}

/// `name=value` and `name-` of a flag that may be repeated.
#[derive(Default)]
struct Pairs {
    set: BTreeMap<String, String>,
    removed: Vec<String>,
}

fn pairs(given: &[String], flag: &str) -> Result<Pairs> {
    let mut pairs = Pairs::default();
    for text in given {
        if let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) {
            pairs.set.insert(name.to_string(), value.to_string());
        } else if let Some(name) = text.strip_suffix('-').filter(|name| !name.is_empty()) {
            pairs.removed.push(name.to_string());
        } else {
            return Err(Error::message(format!("invalid {flag} format: {text}")));
        }
    }
    Ok(pairs)
}

fn embedded(what: &str, path: &str) -> Result<String> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::message(format!("could not stat {what} file {path}: {error}")))?;
    Ok(STANDARD.encode(bytes))
}

fn absolute(path: &str) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::message(format!("{path}: {error}")))
}

fn filled(text: &str) -> Option<String> {
    Some(text.to_string()).filter(|text| !text.is_empty())
}

fn text_entry(name: &str, value: &str) -> (Value, Value) {
    (Value::from(name), Value::from(value))
}

#[cfg(test)]
mod tests;
