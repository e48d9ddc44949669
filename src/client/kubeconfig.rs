//! kubeconfig files: where they are, how several are merged, what a context means, and writing them back.
//!
//! The files are `--kubeconfig`, else the list in `$KUBECONFIG`, else `~/.kube/config`, else
//! `/etc/minik8s/minik8s.yaml`, else the service account of the pod we run in. On merging the first file that
//! names an entry wins. Fields we do not know survive a rewrite.
//!
//! The system-wide file is only read: it is the administrator's access to the cluster, and every user of the
//! machine may share it. A change that finds nothing else writes what the file says, with the change, to the
//! user's own file.
//!
//! Absent: auth providers other than `oidc` (a clear error when they are asked for).

mod entry;
mod exec;
mod oidc;
mod resolve;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_yaml::Value;

use crate::https::ConfigError;

pub use entry::Entry;
pub use exec::PluginPolicy;
pub use resolve::Overrides;

type Extra = BTreeMap<String, Value>;

/// The system-wide file that the server writes.
pub const SYSTEM_FILE: &str = "/etc/minik8s/minik8s.yaml";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    #[serde(deserialize_with = "null_is_default")]
    pub clusters: Vec<NamedCluster>,
    #[serde(deserialize_with = "null_is_default")]
    pub contexts: Vec<NamedContext>,
    #[serde(deserialize_with = "null_is_default")]
    pub current_context: String,
    pub kind: String,
    #[serde(deserialize_with = "null_is_default")]
    pub users: Vec<NamedUser>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedCluster {
    #[serde(default, deserialize_with = "null_is_default")]
    pub cluster: Cluster,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedContext {
    #[serde(default, deserialize_with = "null_is_default")]
    pub context: Context,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedUser {
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub user: User,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_compression: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_skip_tls_verify: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    pub server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    pub cluster: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub user: String,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_provider: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// One line each, in kubectl's words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("stat {}: no such file or directory", .path.display())]
    Missing { path: PathBuf },
    #[error("error loading config file \"{}\": {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("error loading config file \"{}\": yaml: {source}", .path.display())]
    Parse { path: PathBuf, source: serde_yaml::Error },
    #[error("context \"{0}\" does not exist")]
    NoContext(String),
    #[error("cluster \"{0}\" does not exist")]
    NoCluster(String),
    #[error("auth info \"{0}\" does not exist")]
    NoUser(String),
    #[error("no server found for cluster \"{0}\"")]
    NoServer(String),
    #[error("invalid proxy-url of cluster \"{cluster}\": {source}")]
    Proxy { cluster: String, source: ConfigError },
    #[error("{what} of {of:?} is not base64")]
    Base64 { what: &'static str, of: String },
    #[error("unable to read {what} {} for {of} due to {source}", .path.display())]
    Data { what: &'static str, of: String, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Half(String),
    #[error(
        "there is no kubeconfig file to write to: HOME is not set; set it or KUBECONFIG, or pass --kubeconfig"
    )]
    NoPlace,
    #[error("{kind} {name:?} in the kubeconfig files: {source}")]
    Entry { kind: &'static str, name: String, source: serde_yaml::Error },
    #[error("writing {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What the files say together, and from which files.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub merged: Kubeconfig,
    /// Existing files in order of precedence, each as it is, with the path that its changes are written to.
    files: Vec<(PathBuf, Kubeconfig)>,
    /// Where a new entry goes; empty if there is no such place.
    default_file: PathBuf,
}

/// A file to read, and the one that takes its changes: another one only for the system-wide file.
struct Candidate {
    read: PathBuf,
    write: PathBuf,
}

impl From<PathBuf> for Candidate {
    fn from(path: PathBuf) -> Self {
        Candidate { read: path.clone(), write: path }
    }
}

impl Default for Kubeconfig {
    fn default() -> Self {
        Kubeconfig {
            api_version: "v1".to_string(),
            clusters: Vec::new(),
            contexts: Vec::new(),
            current_context: String::new(),
            kind: "Config".to_string(),
            users: Vec::new(),
            extra: Extra::new(),
        }
    }
}

fn null_is_default<'de, D, T>(decoder: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(decoder)?.unwrap_or_default())
}

/// The files to read. The environment is an argument so that tests need not change it.
pub struct Places {
    pub explicit: Option<PathBuf>,
    /// `$KUBECONFIG`.
    pub variable: Option<String>,
    pub home: Option<PathBuf>,
    pub system: PathBuf,
}

impl Places {
    pub fn from_environment(explicit: Option<&Path>) -> Self {
        Places {
            explicit: explicit.map(Path::to_path_buf),
            variable: std::env::var("KUBECONFIG").ok().filter(|value| !value.is_empty()),
            home: std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from),
            system: PathBuf::from(SYSTEM_FILE),
        }
    }

    /// Files in order of precedence, and the one that a new entry goes to.
    fn candidates(&self) -> (Vec<Candidate>, PathBuf) {
        if let Some(path) = &self.explicit {
            return (vec![path.clone().into()], path.clone());
        }
        if let Some(list) = &self.variable {
            let files: Vec<PathBuf> =
                list.split(':').filter(|one| !one.is_empty()).map(PathBuf::from).collect();
            let last = files.iter().find(|path| path.exists()).or(files.last()).cloned();
            return (files.into_iter().map(Candidate::from).collect(), last.unwrap_or_default());
        }
        let own = self.home.as_ref().map(|home| home.join(".kube/config"));
        match own {
            Some(own) if own.exists() || !self.system.exists() => (vec![own.clone().into()], own),
            own => {
                let write = own.unwrap_or_default();
                (vec![Candidate { read: self.system.clone(), write: write.clone() }], write)
            }
        }
    }
}

impl Loaded {
    /// Reads the files. One that was named explicitly must be there.
    pub fn load(places: &Places) -> Result<Self, KubeconfigError> {
        match &places.explicit {
            Some(path) if !path.exists() => Err(KubeconfigError::Missing { path: path.clone() }),
            _ => Loaded::load_for_change(places),
        }
    }

    /// Reads the files for a change, which may be what makes the file that was named explicitly.
    pub fn load_for_change(places: &Places) -> Result<Self, KubeconfigError> {
        let (candidates, default_file) = places.candidates();
        let mut files = Vec::new();
        let mut merged = Kubeconfig::default();
        for Candidate { read, write } in candidates {
            let text = match std::fs::read_to_string(&read) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(KubeconfigError::Read { path: read, source }),
            };
            let directory = read.parent().unwrap_or(Path::new(""));
            let mut file = Kubeconfig::parse(&text, &read)?;
            if read != write {
                file.resolve_paths(directory);
            }
            merged.merge(&file, directory);
            files.push((write, file));
        }
        Ok(Loaded { merged, files, default_file })
    }

    /// No file was found.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The file that a new entry goes to.
    pub fn default_file(&self) -> &Path {
        &self.default_file
    }
}

impl Kubeconfig {
    pub fn parse(text: &str, path: &Path) -> Result<Self, KubeconfigError> {
        if text.trim().is_empty() {
            return Ok(Kubeconfig::default());
        }
        serde_yaml::from_str(text)
            .map_err(|source| KubeconfigError::Parse { path: path.to_path_buf(), source })
    }

    /// Makes the paths of files absolute: they are relative to the directory of the kubeconfig file.
    fn resolve_paths(&mut self, directory: &Path) {
        let clusters = self.clusters.iter_mut().map(|one| &mut one.cluster.certificate_authority);
        let users = self.users.iter_mut().flat_map(|one| {
            [&mut one.user.client_certificate, &mut one.user.client_key, &mut one.user.token_file]
        });
        for path in clusters.chain(users).flatten() {
            if path.is_relative() && !path.as_os_str().is_empty() {
                *path = directory.join(&path);
            }
        }
    }

    /// Takes over what is not named yet; paths become relative to `directory`, the file's own.
    fn merge(&mut self, other: &Kubeconfig, directory: &Path) {
        let mut other = other.clone();
        other.resolve_paths(directory);
        entry::merge(&mut self.clusters, other.clusters);
        entry::merge(&mut self.users, other.users);
        entry::merge(&mut self.contexts, other.contexts);
        if self.current_context.is_empty() {
            self.current_context = other.current_context;
        }
        for (key, value) in other.extra {
            self.extra.entry(key).or_insert(value);
        }
    }

    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|one| one.name == name).map(|one| &one.cluster)
    }

    pub fn context(&self, name: &str) -> Option<&Context> {
        self.contexts.iter().find(|one| one.name == name).map(|one| &one.context)
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|one| one.name == name).map(|one| &one.user)
    }
}

#[cfg(test)]
mod tests;
