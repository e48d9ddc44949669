//! `imagePullSecrets`: which credentials belong to a registry.

use base64::Engine;
use k8s_cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;

use super::name::ImageName;
use super::records::PullSecret;

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// What one secret has for an image's registry.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) auth: AuthConfig,
    pub(crate) secret: PullSecret,
}

/// Credentials of a pod's secrets for an image, most specific first; those that cannot be read are passed
/// over.
pub(crate) fn matching(secrets: &[&Secret], image: &ImageName) -> Vec<Credential> {
    let mut found: Vec<(String, Credential)> = Vec::new();
    for secret in secrets {
        for (server, entry) in entries(secret) {
            if let Some(server) = matches(&server, image).then_some(server) {
                found.push((server, credential(secret, auth(&entry))));
            }
        }
    }
    found.sort_by_key(|(server, _)| std::cmp::Reverse(server.len()));
    found.into_iter().map(|(_, credential)| credential).collect()
}

fn credential(secret: &Secret, auth: AuthConfig) -> Credential {
    let mut hash = Sha256::new();
    for part in [&auth.username, &auth.password, &auth.auth, &auth.identity_token, &auth.registry_token] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut credential_hash = String::new();
    for byte in hash.finalize() {
        let _ = write!(credential_hash, "{byte:02x}");
    }
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let metadata = &secret.metadata;
    let (namespace, name, uid) = (text(&metadata.namespace), text(&metadata.name), text(&metadata.uid));
    Credential { auth, secret: PullSecret { namespace, name, uid, credential_hash } }
}

fn entries(secret: &Secret) -> BTreeMap<String, Entry> {
    let data =
        |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson")
            .and_then(|bytes| serde_json::from_slice::<DockerConfig>(bytes).ok())
            .map(|config| config.auths)
            .unwrap_or_default(),
        Some("kubernetes.io/dockercfg") => {
            data(".dockercfg").and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
        }
        _ => BTreeMap::new(),
    }
}

fn auth(entry: &Entry) -> AuthConfig {
    let mut auth = AuthConfig {
        username: entry.username.clone(),
        password: entry.password.clone(),
        identity_token: entry.identitytoken.clone(),
        registry_token: entry.registrytoken.clone(),
        ..AuthConfig::default()
    };
    let decoded = base64::engine::general_purpose::STANDARD.decode(entry.auth.trim()).ok();
    if let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok())
        && let Some((user, password)) = text.split_once(':')
        && auth.username.is_empty()
    {
        auth.username = user.to_string();
        auth.password = password.trim_end_matches('\0').to_string();
    }
    auth
}

/// Whether a key such as `https://index.docker.io/v1/`, `r.example:5000`, `*.example/team` speaks of an
/// image's registry.
fn matches(key: &str, image: &ImageName) -> bool {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = match path {
        "v1" | "v2" => "",
        path => path.trim_end_matches("/v1").trim_end_matches("/v2"),
    };
    let host = if host == "index.docker.io" || host == "registry-1.docker.io" { "docker.io" } else { host };
    host_matches(host, &image.domain)
        && (path.is_empty() || image.path == path || image.path.starts_with(&format!("{path}/")))
}

/// `*` stands for any part of one label.
fn host_matches(pattern: &str, host: &str) -> bool {
    let (pattern, pattern_port) = split_port(pattern);
    let (host, port) = split_port(host);
    let (patterns, labels): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), host.split('.').collect());
    pattern_port == port
        && patterns.len() == labels.len()
        && patterns.iter().zip(labels).all(|(pattern, label)| match pattern.split_once('*') {
            None => *pattern == label,
            Some((head, tail)) => {
                label.len() >= head.len() + tail.len() && label.starts_with(head) && label.ends_with(tail)
            }
        })
}

fn split_port(host: &str) -> (&str, &str) {
    host.rsplit_once(':').unwrap_or((host, ""))
}

#[cfg(test)]
mod tests;
