//! Whether the files by which containerd finds mirrors and private registries (`HOST/hosts.toml` in its
//! `config_path`) can be used.
//!
//! containerd reads them at each pull and answers a broken one without its name. What is wrong and where is
//! therefore said by us: beside a pull that failed, and to whoever asks for the node's state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::files;

/// Larger files are none of these.
const LARGEST: u64 = 1 << 20;
const CAPABILITIES: [&str; 3] = ["pull", "resolve", "push"];

/// A file that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", .path.display())]
pub(crate) struct RegistryFault {
    pub(crate) path: PathBuf,
    pub(crate) why: String,
}

/// The tables of single hosts; what stands before them is read apart, since a flattened structure would not
/// know where a mistake is.
#[derive(Deserialize)]
struct Hosts {
    #[serde(default)]
    host: BTreeMap<String, HostConfig>,
}

#[derive(Deserialize)]
struct HostConfig {
    server: Option<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    ca: Option<Names>,
    client: Option<Clients>,
    #[serde(default, rename = "skip_verify")]
    _skip_verify: Option<bool>,
    #[serde(default, rename = "override_path")]
    _override_path: Option<bool>,
    #[serde(default, rename = "header")]
    _header: BTreeMap<String, Names>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be a string or a list of strings")]
enum Names {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be a string, or a list of strings or of pairs of strings")]
enum Clients {
    One(String),
    Several(Vec<Names>),
}

impl Names {
    fn all(&self) -> &[String] {
        match self {
            Names::One(name) => std::slice::from_ref(name),
            Names::Several(names) => names,
        }
    }
}

/// What keeps the file of a registry from being used, if there is one that is broken.
pub(crate) fn fault(directory: &Path, registry: &str) -> Option<RegistryFault> {
    // containerd's names for the directory, in its order.
    let plain = registry.replace(':', "_") + "_";
    let names = [registry, if registry.contains(':') { &plain } else { registry }, "_default"];
    let found = names.into_iter().map(|name| directory.join(name)).find(|folder| folder.is_dir())?;
    fault_in(&found)
}

/// All that cannot be used.
pub(crate) fn faults(directory: &Path) -> Vec<RegistryFault> {
    let folders = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut faults: Vec<RegistryFault> = folders.filter_map(|folder| fault_in(&folder)).collect();
    faults.sort_by(|one, other| one.path.cmp(&other.path));
    faults
}

fn fault_in(folder: &Path) -> Option<RegistryFault> {
    let path = folder.join("hosts.toml");
    let bytes = match files::read_bounded(&path, LARGEST) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Some(RegistryFault { path, why: "it is larger than 1 MiB".to_string() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(RegistryFault { path, why: error.to_string() }),
    };
    let why = match String::from_utf8(bytes) {
        Ok(text) => mistake(folder, &text)?,
        Err(error) => format!("byte {} is no UTF-8", error.utf8_error().valid_up_to()),
    };
    Some(RegistryFault { path, why })
}

fn mistake(folder: &Path, text: &str) -> Option<String> {
    let read = || Ok::<_, toml::de::Error>((toml::from_str(text)?, toml::from_str(text)?));
    let (own, Hosts { host }): (HostConfig, Hosts) = match read() {
        Ok(read) => read,
        Err(error) => {
            let what = error.message().trim().replace('\n', ", ");
            return Some(match error.span() {
                Some(span) => format!("{}: {what}", place(text, span.start)),
                None => what,
            });
        }
    };
    let server = own.server.as_deref().map(|server| ("server", server));
    let hosts = host.keys().map(|host| ("host", host.as_str()));
    let wrong = server.into_iter().chain(hosts).find_map(|(what, address)| {
        let why = server_mistake(address)?;
        Some(format!("{what} {address:?}{}: {why}", mention(text, address)))
    });
    wrong.or_else(|| {
        std::iter::once(&own).chain(host.values()).find_map(|config| config.mistake(folder, text))
    })
}

impl HostConfig {
    fn mistake(&self, folder: &Path, text: &str) -> Option<String> {
        if let Some(unknown) = self.capabilities.iter().find(|one| !CAPABILITIES.contains(&one.as_str())) {
            return Some(format!(
                "capability {unknown:?}{} is unknown; there are pull, resolve and push",
                mention(text, unknown)
            ));
        }
        let authorities = self.ca.iter().flat_map(Names::all);
        let clients: Vec<&String> = match &self.client {
            None => Vec::new(),
            Some(Clients::One(name)) => vec![name],
            Some(Clients::Several(names)) => names.iter().flat_map(Names::all).collect(),
        };
        let mut named = authorities.chain(clients).filter(|name| !name.is_empty());
        named.find_map(|name| {
            let error = std::fs::File::open(folder.join(name)).err()?;
            Some(format!("the certificate file {name:?}{} cannot be read: {error}", mention(text, name)))
        })
    }
}

fn server_mistake(address: &str) -> Option<String> {
    if address.is_empty() {
        return Some("it is empty".to_string());
    }
    // Without a scheme it is HTTPS.
    let full = if address.starts_with("http") { address.to_string() } else { format!("https://{address}") };
    match Url::parse(&full) {
        Ok(url) if url.has_host() => None,
        Ok(_) => Some("it names no host".to_string()),
        Err(error) => Some(error.to_string()),
    }
}

/// Where a value first stands.
fn mention(text: &str, value: &str) -> String {
    let at = text.find(&format!("{value:?}")).or_else(|| text.find(value));
    at.map(|at| format!(" ({})", place(text, at))).unwrap_or_default()
}

fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    format!("line {line}, column {column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("r.example:5000");
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("hosts.toml"), text).unwrap();
        std::fs::write(host.join("ca.crt"), "").unwrap();
        let fault = fault(folder.path(), "r.example:5000");
        let all = faults(folder.path());
        assert_eq!(fault.as_ref(), all.first());
        fault.map(|fault| {
            assert_eq!(fault.path, host.join("hosts.toml"));
            fault.why
        })
    }

    #[test]
    fn good_files_are_not_complained_of() {
        let good = r#"
            server = "https://r.example"
            [host."https://mirror.example/v2/cache"]
              capabilities = ["pull", "resolve"]
              ca = "ca.crt"
              client = [["ca.crt", "ca.crt"], "ca.crt"]
              skip_verify = true
              override_path = true
              [host."https://mirror.example/v2/cache".header]
                x-custom = ["a", "b"]
                y = "c"
            [host."plain.example:5000"]
        "#;
        assert_eq!(told(good), None);
        assert_eq!(told(""), None);
        assert_eq!(fault(Path::new("/nonexistent"), "r.example"), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, wanted) in [
            ("server = \"https://a\"\nhost = [", "line 2, column "),
            ("server = https://a", "line 1, column "),
            ("[host.\"https://a\"]\nskip_verify = \"yes\"", "line 2, column 15: "),
            ("[host.\"https://a\"]\nca = 5", "line 2, column 6: "),
            (
                "[host.\"https://a\"]\n  capabilities = [\"pul\"]",
                "capability \"pul\" (line 2, column 19) is unknown",
            ),
            (
                "[host.\"https://a\"]\nca = \"absent.crt\"",
                "file \"absent.crt\" (line 2, column 6) cannot be read",
            ),
            ("server = \"https://a b\"", "server \"https://a b\" (line 1, column 10): "),
        ] {
            let why = told(text).unwrap_or_default();
            assert!(why.contains(wanted), "{text:?}: {why:?}");
        }
    }

    #[test]
    fn the_file_that_containerd_takes_is_the_one_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("r.example_5000_", "x = ["), ("_default", "")] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("hosts.toml"), text).unwrap();
        }
        assert!(fault(folder.path(), "r.example:5000").is_some());
        assert_eq!(fault(folder.path(), "other.example"), None);
        std::fs::create_dir(folder.path().join("r.example:5000")).unwrap();
        assert_eq!(fault(folder.path(), "r.example:5000"), None);
    }
}
