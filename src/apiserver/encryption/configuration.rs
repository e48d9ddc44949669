//! `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`: how it is read and what is wrong with it, in
//! upstream's words.
//!
//! KMS plugins of the first version of their API are refused by name: upstream has them off, too.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use api::FieldError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const VERSION: &str = "apiserver.config.k8s.io/v1";
const KIND: &str = "EncryptionConfiguration";

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    #[error("the encryption configuration is empty")]
    Empty,
    /// It is no YAML, or has fields that there are not.
    #[error("error decoding encryption provider configuration: {0}")]
    Syntax(String),
    #[error("invalid encryption configuration: {}", listed(.0))]
    Invalid(Vec<FieldError>),
    #[error("resource {resource:?} is masked by earlier rule {rule:?}")]
    Masked { resource: String, rule: String },
    #[error(
        "KMSv1 is deprecated and not supported: the KMS provider {0:?} needs a plugin that speaks apiVersion v2"
    )]
    KmsV1(String),
    /// The thread that talks to a plugin cannot be started.
    #[error("could not configure KMSv2-Plugin {name:?}")]
    Kms { name: String, source: std::io::Error },
    /// The configuration that the cluster keeps was sealed with another key.
    #[error(
        "the cluster's encryption configuration does not open with this server's encryption key; copy \
         DATA/server/encryption-key from the server that has enabled encryption"
    )]
    Sealed,
    /// There is no key to seal it with.
    #[error("this server has no key to seal the cluster's encryption configuration with")]
    NoKey,
}

fn listed(faults: &[FieldError]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    match faults.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Configuration {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    pub(super) resources: Vec<ResourceRule>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResourceRule {
    #[serde(default)]
    pub(super) resources: Vec<String>,
    #[serde(default)]
    pub(super) providers: Vec<ProviderRule>,
}

/// One of its fields is set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) aesgcm: Option<Keys>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) aescbc: Option<Keys>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secretbox: Option<Keys>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kms: Option<KmsRule>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    #[serde(default)]
    pub(super) keys: Vec<Key>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    #[serde(default)]
    pub(super) name: String,
    /// Base64.
    #[serde(default)]
    pub(super) secret: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name: {}, Secret: [REDACTED]", self.name)
    }
}

impl Key {
    pub(super) fn secret(&self) -> Vec<u8> {
        STANDARD.decode(&self.secret).unwrap_or_default()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KmsRule {
    /// Upstream's default is the first version.
    #[serde(default = "first_version")]
    pub(super) api_version: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, rename = "cachesize")]
    cache_size: Option<i32>,
    #[serde(default)]
    pub(super) endpoint: String,
    #[serde(default)]
    timeout: Option<String>,
}

fn first_version() -> String {
    "v1".to_string()
}

impl KmsRule {
    const TIMEOUT: Duration = Duration::from_secs(3);

    /// None if it is no length of time.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let Some(text) = &self.timeout else { return Some(Self::TIMEOUT) };
        let length: jiff::SignedDuration = text.parse().ok()?;
        Duration::try_from(length).ok().filter(|length| !length.is_zero())
    }

    pub(super) fn socket(&self) -> Option<&str> {
        self.endpoint.strip_prefix("unix://")
    }
}

impl Configuration {
    pub(super) fn new(resources: Vec<ResourceRule>) -> Configuration {
        Configuration { api_version: VERSION.to_string(), kind: KIND.to_string(), resources }
    }

    /// Reads and checks a configuration, in YAML or JSON.
    pub(super) fn parse(text: &[u8]) -> Result<Configuration, EncryptionError> {
        if text.iter().all(u8::is_ascii_whitespace) {
            return Err(EncryptionError::Empty);
        }
        let syntax = |why: &str| EncryptionError::Syntax(why.to_string());
        let (tree, twice) = api::schema::decode_yaml(text)
            .map_err(|error| EncryptionError::Syntax(error.message().into()))?;
        if let Some(twice) = twice.first() {
            return Err(syntax(twice));
        }
        let said = |name: &str| tree.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
        let (version, kind) = (said("apiVersion"), said("kind"));
        if version != VERSION || kind != KIND {
            return Err(syntax(&format!("no kind {kind:?} is registered for version {version:?}")));
        }
        // The texts of serde name fields, never values of them that are texts: those are what is secret.
        let configuration =
            Configuration::deserialize(&tree).map_err(|error| EncryptionError::Syntax(redacted(&error)))?;
        let faults = configuration.faults();
        match faults.is_empty() {
            true => configuration.check_served().map(|()| configuration),
            false => Err(EncryptionError::Invalid(faults)),
        }
    }

    /// What is well formed but not to be had here.
    fn check_served(&self) -> Result<(), EncryptionError> {
        let mut plugins = self.resources.iter().flat_map(|rule| &rule.providers).flat_map(|rule| &rule.kms);
        match plugins.find(|kms| kms.api_version == "v1") {
            Some(kms) => Err(EncryptionError::KmsV1(kms.name.clone())),
            None => self.check_masked(),
        }
    }

    /// A rule after one that takes all of its resources would never be looked at.
    fn check_masked(&self) -> Result<(), EncryptionError> {
        let mut earlier: HashSet<GroupResource> = HashSet::new();
        for text in self.resources.iter().flat_map(|rule| &rule.resources) {
            let resource = GroupResource::parse(text);
            for mask in [GroupResource::new(&resource.group, "*"), GroupResource::new("*", "*")] {
                if earlier.contains(&mask) {
                    return Err(EncryptionError::Masked { resource: text.clone(), rule: mask.to_string() });
                }
            }
            earlier.insert(resource);
        }
        Ok(())
    }

    fn faults(&self) -> Vec<FieldError> {
        if self.resources.is_empty() {
            return vec![FieldError::required("resources", at_least_one("resources"))];
        }
        let mut faults = Vec::new();
        let mut plugins = HashSet::new();
        for (at, rule) in self.resources.iter().enumerate() {
            let (resources, providers) =
                (format!("resources[{at}].resources"), format!("resources[{at}].providers"));
            if rule.resources.is_empty() {
                faults.push(FieldError::required(&resources, at_least_one(&resources)));
            }
            faults.extend(overlaps(&rule.resources, &resources));
            for (at, name) in rule.resources.iter().enumerate() {
                if let Some(why) = misnamed(name) {
                    faults.push(FieldError::invalid(format!("{resources}[{at}]"), name, why));
                }
            }
            if rule.providers.is_empty() {
                faults.push(FieldError::required(&providers, at_least_one(&providers)));
            }
            for (at, provider) in rule.providers.iter().enumerate() {
                provider.check(&format!("{providers}[{at}]"), &mut plugins, &mut faults);
            }
        }
        faults
    }
}

/// What serde says without what it has found.
fn redacted(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once("invalid type: string \"") {
        Some((before, after)) => {
            let after = after.rsplit_once('"').map_or("", |(_, after)| after);
            format!("{before}invalid type: string{after}")
        }
        None => text,
    }
}

fn at_least_one(what: &str) -> String {
    format!("at least one {what} is required")
}

/// A resource of a group, `*` for all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupResource {
    pub(super) group: String,
    pub(super) resource: String,
}

impl GroupResource {
    pub(super) fn new(group: &str, resource: &str) -> Self {
        GroupResource { group: group.to_string(), resource: resource.to_string() }
    }

    pub(super) fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self::new(group, resource)
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.group, &*self.resource) {
            ("", "*") => f.write_str("*."),
            ("", resource) => f.write_str(resource),
            (group, resource) => write!(f, "{resource}.{group}"),
        }
    }
}

fn overlaps(resources: &[String], field: &str) -> Vec<FieldError> {
    let parsed: Vec<GroupResource> = resources.iter().map(|text| GroupResource::parse(text)).collect();
    let (mut twice, mut overlap) = (false, false);
    for (at, one) in parsed.iter().enumerate() {
        for other in parsed.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other) {
            let all = one.group == "*" && one.resource == "*";
            let wide = one.group == other.group && (one.resource == "*" || other.resource == "*");
            match one == other {
                true => twice = true,
                false => overlap |= all || wide,
            }
        }
    }
    let mut faults = Vec::new();
    if twice {
        let why = "the same resource cannot be specified multiple times";
        faults.push(FieldError::invalid(field, resources, why));
    }
    if overlap {
        let why = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not \
                   allowed as they will be masked";
        faults.push(FieldError::invalid(field, resources, why));
    }
    faults
}

fn misnamed(name: &str) -> Option<&'static str> {
    let GroupResource { group, resource } = GroupResource::parse(name);
    if name.to_lowercase() != name {
        return Some("resource name should not contain capital letters");
    }
    match (&*group, &*resource, name) {
        (_, _, "*") => {
            Some("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources")
        }
        (_, _, "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations") => {
            Some("resources which do not have REST API/s cannot be encrypted")
        }
        ("events.k8s.io", ..) => Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in \
             the config file",
        ),
        ("extensions", ..) => Some("'extensions' group has been removed and cannot be used for encryption"),
        ("*", resource, _) if resource != "*" => {
            Some("encrypting the same resource across groups is not supported")
        }
        _ => None,
    }
}

impl ProviderRule {
    fn check(&self, field: &str, plugins: &mut HashSet<String>, faults: &mut Vec<FieldError>) {
        let found = [
            self.kms.is_some(),
            self.aesgcm.is_some(),
            self.aescbc.is_some(),
            self.secretbox.is_some(),
            self.identity.is_some(),
        ];
        match found.into_iter().filter(|found| *found).count() {
            0 => {
                let why = "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, \
                           Secretbox, Identity";
                faults.push(FieldError::invalid_without_value(field, why));
            }
            1 => {}
            _ => {
                let why = "more than one provider specified in a single element, should split into different \
                           list elements";
                faults.push(FieldError::invalid_without_value(field, why));
            }
        }
        if let Some(kms) = &self.kms {
            kms.check(&format!("{field}.kms"), plugins, faults);
            plugins.insert(kms.name.clone());
        } else if let Some(keys) = &self.aesgcm {
            keys.check(&format!("{field}.aesgcm.keys"), &[16, 24, 32], faults);
        } else if let Some(keys) = &self.aescbc {
            keys.check(&format!("{field}.aescbc.keys"), &[16, 24, 32], faults);
        } else if let Some(keys) = &self.secretbox {
            keys.check(&format!("{field}.secretbox.keys"), &[32], faults);
        }
    }
}

impl Keys {
    fn check(&self, field: &str, lengths: &[usize], faults: &mut Vec<FieldError>) {
        if self.keys.is_empty() {
            faults.push(FieldError::required(field, at_least_one("keys")));
        }
        for (at, key) in self.keys.iter().enumerate() {
            let secret = format!("{field}[{at}].secret");
            if key.name.is_empty() {
                faults.push(FieldError::required(
                    format!("{field}[{at}].name"),
                    "name is a mandatory field for a key",
                ));
            }
            if key.secret.is_empty() {
                faults.push(FieldError::required(secret, "secret is a mandatory field for a key"));
                continue;
            }
            match STANDARD.decode(&key.secret) {
                Err(_) => {
                    let why = "secrets must be base64 encoded";
                    faults.push(FieldError::invalid(secret, "REDACTED", why));
                }
                Ok(bytes) if !lengths.contains(&bytes.len()) => {
                    let all: Vec<String> = lengths.iter().map(ToString::to_string).collect();
                    let why = format!(
                        "secret is not of the expected length, got {}, expected one of [{}]",
                        bytes.len(),
                        all.join(" ")
                    );
                    faults.push(FieldError::invalid(secret, "REDACTED", why));
                }
                Ok(_) => {}
            }
        }
    }
}

impl KmsRule {
    fn check(&self, field: &str, plugins: &HashSet<String>, faults: &mut Vec<FieldError>) {
        let (name, endpoint) = (format!("{field}.name"), format!("{field}.endpoint"));
        if self.name.is_empty() {
            faults.push(FieldError::required(&name, "name is a mandatory field for a provider"));
        }
        if self.api_version != "v1" && self.name.contains(':') {
            let why = format!("invalid KMS provider name {}, must not contain ':'", self.name);
            faults.push(FieldError::invalid(&name, &self.name, why));
        }
        if plugins.contains(&self.name) {
            let why = format!("duplicate KMS provider name {}, names must be unique", self.name);
            faults.push(FieldError::invalid(&name, &self.name, why));
        }
        if self.timeout().is_none() {
            let why = "timeout should be a positive value";
            faults.push(FieldError::invalid(format!("{field}.timeout"), &self.timeout, why));
        }
        if self.endpoint.is_empty() {
            faults.push(FieldError::invalid(&endpoint, "", "endpoint is a mandatory field for a kms"));
        } else if self.socket().is_none() {
            let scheme = self.endpoint.split_once(':').map_or("", |(scheme, _)| scheme);
            let why = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
            faults.push(FieldError::invalid(&endpoint, &self.endpoint, why));
        }
        if let Some(size) = self.cache_size.filter(|_| self.api_version != "v1") {
            let why = "cachesize is not supported in v2";
            faults.push(FieldError::invalid(format!("{field}.cachesize"), size, why));
        }
        if !matches!(&*self.api_version, "v1" | "v2") {
            let why = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported"
                .to_string();
            faults.push(FieldError::invalid(format!("{field}.apiVersion"), &self.api_version, why));
        }
    }
}

#[cfg(test)]
mod tests;
