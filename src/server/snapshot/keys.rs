//! What a restored cluster needs beside its objects to be itself: authorities, the service accounts' key,
//! tokens, and the keys that seal its snapshots, so that what is kept of them elsewhere goes on being good.
//!
//! Certificates that are issued from these are left out: a restored server makes its own.

use std::collections::BTreeMap;

use agent::{Instance, Problem, files};

use crate::secrets;

/// Below `DATA/server`.
const FILES: &[&str] = &[
    "tls/server-ca.crt",
    "tls/server-ca.key",
    "tls/client-ca.crt",
    "tls/client-ca.key",
    "tls/kubelet-ca.crt",
    "tls/kubelet-ca.key",
    "tls/front-proxy-ca.crt",
    "tls/front-proxy-ca.key",
    "tls/service.key",
    "tls/etcd/ca.crt",
    "tls/etcd/ca.key",
    "token",
    "agent-token",
    "seal-key",
    "encryption-key",
];

/// The files' contents by name, as JSON. A file that does not exist is left out.
pub(crate) fn collect(instance: &Instance) -> Result<Vec<u8>, Problem> {
    let mut contents = BTreeMap::new();
    for name in FILES {
        if let Some(text) = files::read(&instance.server_dir().join(name))? {
            contents.insert(*name, text);
        }
    }
    serde_json::to_vec(&contents).map_err(|error| Problem::new("collect the keys", error, "try again"))
}

/// Reads what [`collect`] made; names that no version of us has written are refused.
pub(crate) fn parse(content: &[u8]) -> Result<BTreeMap<String, String>, Problem> {
    let refused = |why: String| Problem::new("restore the keys", why, "use another snapshot");
    let contents: BTreeMap<String, String> =
        serde_json::from_slice(content).map_err(|error| refused(error.to_string()))?;
    match contents.keys().find(|name| !FILES.contains(&name.as_str())) {
        Some(name) => Err(refused(format!("the snapshot holds an unknown file {name:?}"))),
        None => Ok(contents),
    }
}

/// Keys that are there and differ would be lost: nothing is overwritten.
pub(crate) fn check_absent(instance: &Instance, contents: &BTreeMap<String, String>) -> Result<(), Problem> {
    for (name, text) in contents {
        let path = instance.server_dir().join(name);
        if files::read(&path)?.is_some_and(|old| old != *text) {
            return Err(Problem::new(
                format!("restore {}", path.display()),
                "another cluster's is there",
                crate::snapshot::MAKE_ROOM,
            ));
        }
    }
    Ok(())
}

/// A machine that comes back to its cluster has the same authorities, if it has any.
pub(crate) fn check_authorities(
    instance: &Instance,
    contents: &BTreeMap<String, String>,
) -> Result<(), Problem> {
    let authorities = contents.iter().filter(|(name, _)| name.starts_with("tls/"));
    let authorities = authorities.map(|(name, text)| (name.clone(), text.clone())).collect();
    check_absent(instance, &authorities)
}

/// Adds the seal keys that only this machine has, for the snapshots that it has saved.
pub(crate) fn keep_seal_keys(
    instance: &Instance,
    contents: &mut BTreeMap<String, String>,
) -> Result<(), Problem> {
    let Some(text) = contents.get_mut("seal-key") else { return Ok(()) };
    for own in secrets::seal_keys(instance)? {
        if !text.lines().any(|line| line.trim() == own) {
            text.push_str(&format!("{own}\n"));
        }
    }
    Ok(())
}

pub(crate) fn write(instance: &Instance, contents: &BTreeMap<String, String>) -> Result<(), Problem> {
    let folder = instance.server_dir();
    for folder in [folder.clone(), folder.join("tls"), folder.join("tls/etcd")] {
        files::private_directory(&folder)?;
    }
    for (name, text) in contents {
        files::write(&folder.join(name), text.as_bytes(), 0o600)?;
    }
    Ok(())
}
