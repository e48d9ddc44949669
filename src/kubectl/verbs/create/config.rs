//! Generators of configmaps and secrets.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::GeneratorArgs;
use crate::error::{Error, Result};
use crate::kustomize::hash_letters;
use crate::output::json;

#[derive(Args)]
struct DataArgs {
    /// KEY=VALUE, may be repeated
    #[arg(long)]
    from_literal: Vec<String>,
    /// [KEY=]PATH of a file or directory, may be repeated
    #[arg(long)]
    from_file: Vec<String>,
    /// File of KEY=VALUE lines
    #[arg(long)]
    from_env_file: Vec<String>,
}

/// Create a config map from a local file, directory or literal value
#[derive(Args)]
pub(crate) struct ConfigMapArgs {
    name: String,
    #[command(flatten)]
    data: DataArgs,
    /// Append a hash of the content to the name
    #[arg(long)]
    append_hash: bool,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a secret using a specified subcommand
#[derive(Args)]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    kind: SecretKind,
}

#[derive(Subcommand)]
enum SecretKind {
    Generic(GenericArgs),
    Tls(TlsArgs),
    #[command(name = "docker-registry")]
    DockerRegistry(RegistryArgs),
}

/// Create a secret from a local file, directory, or literal value
#[derive(Args)]
struct GenericArgs {
    name: String,
    #[command(flatten)]
    data: DataArgs,
    /// Type of the secret
    #[arg(long = "type")]
    kind: Option<String>,
    /// Append a hash of the content to the name
    #[arg(long)]
    append_hash: bool,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a TLS secret
#[derive(Args)]
struct TlsArgs {
    name: String,
    /// File of the certificate
    #[arg(long)]
    cert: String,
    /// File of the private key
    #[arg(long)]
    key: String,
    /// Append a hash of the content to the name
    #[arg(long)]
    append_hash: bool,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// Create a secret for use with a Docker registry
#[derive(Args)]
struct RegistryArgs {
    name: String,
    #[arg(long, default_value = "https://index.docker.io/v1/")]
    docker_server: String,
    #[arg(long, default_value = "")]
    docker_username: String,
    #[arg(long, default_value = "")]
    docker_password: String,
    #[arg(long, default_value = "")]
    docker_email: String,
    /// [KEY=]PATH of a docker configuration
    #[arg(long)]
    from_file: Vec<String>,
    /// Append a hash of the content to the name
    #[arg(long)]
    append_hash: bool,
    #[command(flatten)]
    generator: GeneratorArgs,
}

type Entries = Vec<(String, Vec<u8>)>;

impl DataArgs {
    fn entries(&self, kind: &str) -> Result<Entries> {
        self.collect().map_err(|error| match error {
            Error::Message(text) => Error::Message(text.replacen(
                " is not a valid key name:",
                &format!(" is not a valid key name for a {kind}:"),
                1,
            )),
            other => other,
        })
    }

    fn collect(&self) -> Result<Entries> {
        let mut entries = Entries::new();
        for literal in &self.from_literal {
            let (key, value) =
                literal.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
                    Error::message(format!("invalid literal source {literal}, expected key=value"))
                })?;
            add(&mut entries, key, unquoted(value).as_bytes().to_vec())?;
        }
        for source in &self.from_file {
            from_file(source, &mut entries)?;
        }
        for path in &self.from_env_file {
            let text = String::from_utf8(read(Path::new(path))?)
                .map_err(|_| Error::message(format!("env file {path} contains invalid utf8 bytes")))?;
            for line in text.trim_start_matches('\u{feff}').lines().map(str::trim_start) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                // A bare name takes its value from the environment.
                let (key, value) = match line.split_once('=') {
                    Some((key, value)) => (key, value.to_string()),
                    None => (line, std::env::var(line).unwrap_or_default()),
                };
                add(&mut entries, key, value.into_bytes())?;
            }
        }
        Ok(entries)
    }
}

/// Quotes that survived the shell around a whole value are taken off, as kubectl does.
fn unquoted(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::message(format!("open {}: no such file or directory", path.display()))
        }
        _ => Error::message(format!("error reading {}: {error}", path.display())),
    })
}

fn from_file(source: &str, entries: &mut Entries) -> Result<()> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::message(format!("error reading {}: no such file or directory", path.display()))
            }
            _ => Error::message(format!("error reading {}: {error}", path.display())),
        })
    };
    if let Some((key, path)) = source.split_once('=') {
        return add(entries, key, read(Path::new(path))?);
    }
    let path = Path::new(source);
    if !path.is_dir() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        return add(entries, name, read(path)?);
    }
    let mut files: Vec<_> =
        std::fs::read_dir(path)?.map(|entry| entry.map(|one| one.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    for file in files.into_iter().filter(|file| file.is_file()) {
        if let Some(name) = file.file_name().and_then(|name| name.to_str()) {
            add(entries, name, read(&file)?)?;
        }
    }
    Ok(())
}

fn add(entries: &mut Entries, key: &str, value: Vec<u8>) -> Result<()> {
    let valid =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !valid || key == "." || key == ".." || key.len() > 253 {
        return Err(Error::message(format!(
            "{key:?} is not a valid key name: a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        )));
    }
    if entries.iter().any(|(known, _)| known == key) {
        return Err(Error::message(format!(
            "cannot add key {key:?}, another key by that name already exists in Data"
        )));
    }
    entries.push((key.to_string(), value));
    Ok(())
}

pub(super) fn config_map(args: ConfigMapArgs) -> Result<(Value, GeneratorArgs)> {
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, value) in args.data.entries("ConfigMap")? {
        match String::from_utf8(value) {
            Ok(text) => data.insert(key, json!(text)),
            Err(bytes) => binary.insert(key, json!(STANDARD.encode(bytes.as_bytes()))),
        };
    }
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": args.name}});
    if !data.is_empty() {
        object["data"] = Value::Object(data);
    }
    if !binary.is_empty() {
        object["binaryData"] = Value::Object(binary);
    }
    if args.append_hash {
        append_hash(&mut object);
    }
    Ok((object, args.generator))
}

/// Names an object by what it holds: a change of the content is a new object.
fn append_hash(object: &mut Value) {
    let name = &object["metadata"]["name"];
    let mut content = json!({"kind": object["kind"], "name": name});
    if object["kind"] == "Secret" {
        content["type"] = object.get("type").cloned().unwrap_or_else(|| json!(""));
    }
    content["data"] = object.get("data").cloned().unwrap_or_else(|| json!({}));
    if let Some(binary) = object.get("binaryData") {
        content["binaryData"] = binary.clone();
    }
    let hash = hash_letters(&json::compact(&sorted(&content)));
    let named = format!("{}-{hash}", name.as_str().unwrap_or_default());
    object["metadata"]["name"] = json!(named);
}

/// With keys in the order of Go's encoder.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            Value::Object(keys.into_iter().map(|key| (key.clone(), sorted(&map[key]))).collect())
        }
        other => other.clone(),
    }
}

fn secret_object(name: &str, kind: Option<&str>, entries: Entries) -> Value {
    let data: Map<String, Value> =
        entries.into_iter().map(|(key, value)| (key, json!(STANDARD.encode(value)))).collect();
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    if !data.is_empty() {
        object["data"] = Value::Object(data);
    }
    if let Some(kind) = kind {
        object["type"] = json!(kind);
    }
    object
}

pub(super) fn secret(args: SecretArgs) -> Result<(Value, GeneratorArgs)> {
    let is_hashed = match &args.kind {
        SecretKind::Generic(args) => args.append_hash,
        SecretKind::Tls(args) => args.append_hash,
        SecretKind::DockerRegistry(args) => args.append_hash,
    };
    let (mut object, generator) = made_secret(args)?;
    if is_hashed {
        append_hash(&mut object);
    }
    Ok((object, generator))
}

fn made_secret(args: SecretArgs) -> Result<(Value, GeneratorArgs)> {
    match args.kind {
        SecretKind::Generic(args) => {
            let object = secret_object(&args.name, args.kind.as_deref(), args.data.entries("Secret")?);
            Ok((object, args.generator))
        }
        SecretKind::Tls(args) => {
            let entries = vec![
                ("tls.crt".to_string(), read(Path::new(&args.cert))?),
                ("tls.key".to_string(), read(Path::new(&args.key))?),
            ];
            for (name, bytes) in &entries {
                if !String::from_utf8_lossy(bytes).contains("-----BEGIN ") {
                    return Err(Error::message(format!("{name}: failed to find any PEM data in the input")));
                }
            }
            Ok((secret_object(&args.name, Some("kubernetes.io/tls"), entries), args.generator))
        }
        SecretKind::DockerRegistry(args) => registry(args),
    }
}

fn registry(args: RegistryArgs) -> Result<(Value, GeneratorArgs)> {
    const KEY: &str = ".dockerconfigjson";
    let mut entries = Entries::new();
    for source in &args.from_file {
        let path = source.split_once('=').map_or(source.as_str(), |(_, path)| path);
        add(&mut entries, KEY, read(Path::new(path))?)?;
    }
    if entries.is_empty() {
        if args.docker_username.is_empty() || args.docker_password.is_empty() {
            return Err(Error::message(
                "either --from-file or the combination of --docker-username, --docker-password and --docker-server is required",
            ));
        }
        let auth = STANDARD.encode(format!("{}:{}", args.docker_username, args.docker_password));
        // In the order in which kubectl writes them, so that the secret is the same.
        let mut fields = vec![("username", &args.docker_username), ("password", &args.docker_password)];
        if !args.docker_email.is_empty() {
            fields.push(("email", &args.docker_email));
        }
        fields.push(("auth", &auth));
        let account: Vec<String> =
            fields.iter().map(|(key, value)| format!("{:?}:{}", key, json!(value))).collect();
        let config = format!("{{\"auths\":{{{}:{{{}}}}}}}", json!(args.docker_server), account.join(","));
        entries.push((KEY.to_string(), config.into_bytes()));
    }
    Ok((secret_object(&args.name, Some("kubernetes.io/dockerconfigjson"), entries), args.generator))
}

#[cfg(test)]
mod tests;
