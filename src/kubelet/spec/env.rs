//! A container's environment: `env`, `envFrom`, `$(NAME)` expansion, and the variables that describe
//! services.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};

use super::PodExt;
use super::amount::Resources;
use super::env_file::{self, EnvFileError};
use super::fields::{self, Addresses};

/// Config maps and secrets of one namespace by name; `None` for one that does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: HashMap<String, Option<Arc<ConfigMap>>>,
    pub(crate) secrets: HashMap<String, Option<Arc<Secret>>>,
    /// Environment files by volume and path, as text; `None` for one that cannot be read.
    pub(crate) files: HashMap<(String, String), Option<String>>,
}

/// What a container's environment is made from, beside its specification.
pub(crate) struct EnvInput<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) addresses: &'a Addresses,
    pub(crate) allocatable: &'a Resources,
    pub(crate) services: &'a BTreeMap<String, String>,
    pub(crate) sources: &'a Sources,
}

/// Names of config maps and secrets a container's environment needs.
pub(crate) fn referenced(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|one| one.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|one| one.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.iter().map(|one| one.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|one| one.name.clone()));
    }
    (config_maps, secrets)
}

/// The files that a container's environment needs: volume and path.
pub(crate) fn referenced_files(container: &Container) -> BTreeSet<(String, String)> {
    let sources = container.env.iter().flatten().filter_map(|var| var.value_from.as_ref());
    let references = sources.filter_map(|source| source.file_key_ref.as_ref());
    references.map(|one| (one.volume_name.clone(), one.path.clone())).collect()
}

/// Why an environment cannot be made; upstream's texts, which end in `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvError {
    #[error("{kind} {name:?} not found")]
    NoObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("missing value for {0:?}")]
    NoValue(String),
    #[error("couldn't parse env file")]
    File(#[from] EnvFileError),
    #[error("couldn't parse env file")]
    NoFile,
    #[error("environment variable key {key:?} not found in file {path:?}")]
    NoFileKey { key: String, path: String },
    #[error(transparent)]
    Field(#[from] fields::FieldRefError),
}

impl EnvError {
    fn no_object(kind: &'static str, name: &str) -> Self {
        EnvError::NoObject { kind, name: name.to_string() }
    }

    fn no_key(kind: &'static str, namespace: &str, name: &str, key: &str) -> Self {
        let [namespace, name, key] = [namespace, name, key].map(str::to_string);
        EnvError::NoKey { kind, namespace, name, key }
    }
}

/// The environment, sorted by name.
pub(crate) fn environment(
    container: &Container,
    input: &EnvInput<'_>,
) -> Result<BTreeMap<String, String>, EnvError> {
    let mut env = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or("");
        if let Some(reference) = &from.config_map_ref {
            let found = input.sources.config_maps.get(&reference.name).cloned().flatten();
            let Some(map) = found else {
                if reference.optional == Some(true) {
                    continue;
                }
                return Err(EnvError::no_object("configmap", &reference.name));
            };
            env.extend(
                map.data.iter().flatten().map(|(key, value)| (format!("{prefix}{key}"), value.clone())),
            );
        }
        if let Some(reference) = &from.secret_ref {
            let found = input.sources.secrets.get(&reference.name).cloned().flatten();
            let Some(secret) = found else {
                if reference.optional == Some(true) {
                    continue;
                }
                return Err(EnvError::no_object("secret", &reference.name));
            };
            let data = secret.data.iter().flatten();
            env.extend(data.map(|(key, value)| {
                (format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned())
            }));
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (var.value.as_deref(), &var.value_from) {
            (Some(value), _) if !value.is_empty() => expand(value, &[&env, input.services]),
            (_, Some(source)) => match from_source(source, container, input)? {
                Some(value) => value,
                None => continue,
            },
            _ => String::new(),
        };
        env.insert(var.name.clone(), value);
    }
    for (name, value) in input.services {
        env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(env)
}

/// `None` for an optional reference to something that is not there.
fn from_source(
    source: &EnvVarSource,
    container: &Container,
    input: &EnvInput<'_>,
) -> Result<Option<String>, EnvError> {
    if let Some(reference) = &source.field_ref {
        return Ok(Some(fields::field(input.pod, &reference.field_path, input.addresses)?));
    }
    if let Some(reference) = &source.resource_field_ref {
        let name = reference.container_name.as_deref().unwrap_or(&container.name);
        let container = input.pod.find_container(name).unwrap_or(container);
        return Ok(Some(fields::resource(reference, container, input.allocatable)?));
    }
    let namespace = input.pod.namespace();
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let found = input.sources.config_maps.get(&reference.name).cloned().flatten();
        let Some(map) = found else {
            return if optional { Ok(None) } else { Err(EnvError::no_object("configmap", &reference.name)) };
        };
        let value = map.data.as_ref().and_then(|data| data.get(&reference.key)).cloned();
        if value.is_none() && !optional {
            return Err(EnvError::no_key("ConfigMap", namespace, &reference.name, &reference.key));
        }
        return Ok(value);
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let found = input.sources.secrets.get(&reference.name).cloned().flatten();
        let Some(secret) = found else {
            return if optional { Ok(None) } else { Err(EnvError::no_object("secret", &reference.name)) };
        };
        let value = secret.data.as_ref().and_then(|data| data.get(&reference.key));
        if value.is_none() && !optional {
            return Err(EnvError::no_key("Secret", namespace, &reference.name, &reference.key));
        }
        return Ok(value.map(|value| String::from_utf8_lossy(&value.0).into_owned()));
    }
    if let Some(reference) = &source.file_key_ref {
        let key = (reference.volume_name.clone(), reference.path.clone());
        let text = input.sources.files.get(&key).cloned().flatten().ok_or(EnvError::NoFile)?;
        let value = env_file::value(&text, &reference.key)?;
        if value.is_none() && reference.optional != Some(true) {
            let [key, path] = [&reference.key, &reference.path].map(String::clone);
            return Err(EnvError::NoFileKey { key, path });
        }
        return Ok(value);
    }
    Ok(Some(String::new()))
}

/// Replaces `$(NAME)` by the first map that knows the name. Unknown names stay as they are; `$$` is a dollar
/// sign.
pub(crate) fn expand(text: &str, maps: &[&BTreeMap<String, String>]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match maps.iter().find_map(|map| map.get(name)) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// `subPathExpr` is stricter than other expansion: every name must be known.
pub(crate) fn expand_strictly(text: &str, env: &BTreeMap<String, String>) -> Result<String, EnvError> {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            if !env.contains_key(name) {
                return Err(EnvError::NoValue(name.to_string()));
            }
            rest = after;
        }
    }
    Ok(expand(text, &[env]))
}

/// Variables for the services of a pod's namespace, and always for `kubernetes` of `default`.
pub(crate) fn service_variables(
    services: &[Arc<Service>],
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or("");
        let home = service.metadata.namespace.as_deref().unwrap_or("");
        if home == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        } else if links && home == namespace {
            chosen.insert(name, service);
        }
    }
    for (name, service) in chosen {
        add_service(&mut env, name, service);
    }
    env
}

fn add_service(env: &mut BTreeMap<String, String>, name: &str, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or("");
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (Some(first), false) = (ports.first(), ip.is_empty() || ip == "None") else { return };
    let name = variable_name(name);
    env.insert(format!("{name}_SERVICE_HOST"), ip.to_string());
    env.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|one| !one.is_empty()) {
            env.insert(format!("{name}_SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string());
        }
    }
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_string() };
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        let url = format!("{lower}://{host}:{}", port.port);
        if index == 0 {
            env.insert(format!("{name}_PORT"), url.clone());
        }
        env.insert(format!("{prefix}_PROTO"), lower);
        env.insert(format!("{prefix}_PORT"), port.port.to_string());
        env.insert(format!("{prefix}_ADDR"), ip.to_string());
        env.insert(prefix, url);
    }
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests;
