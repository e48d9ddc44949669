//! `minik8s snapshot restore`: opens the sealed keys with what is given, and makes the data directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use agent::command::print_line;
use agent::token::Token;
use agent::{Instance, Problem};
use embedded_store::snapshot as file;

use super::{first_line, unusable};
use crate::secrets;
use crate::snapshot::{KEYS, keys};

/// Secrets that a user gives for opening the sealed keys.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) seal_key: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl Given {
    /// What may open them: what is given, else what lies in the data directory.
    fn candidates(&self, instance: &Instance) -> Result<Vec<String>, Problem> {
        if let Some(path) = &self.passphrase_file {
            return first_line(path).map(|passphrase| vec![passphrase]);
        }
        // A whole file may have been copied: then every line of it counts.
        let mut found: Vec<String> =
            self.seal_key.iter().flat_map(|key| key.split_whitespace()).map(str::to_string).collect();
        let token = self.token.as_deref().map(Token::parse).transpose()?;
        found.extend(token.map(|token| token.secret));
        if found.is_empty() {
            found = secrets::seal_keys(instance)?;
            let token = agent::files::read(&instance.server_dir().join("token"))?;
            found.extend(token.and_then(|text| Token::parse(&text).ok()).map(|token| token.secret));
        }
        if found.is_empty() {
            let why = "the cluster's keys in it are sealed and no secret is given";
            let advice = "give the --seal-key of the server that saved it, its --token (for older snapshots), or --passphrase-file";
            return Err(Problem::new("restore the snapshot", why, advice));
        }
        Ok(found)
    }

    fn open(&self, instance: &Instance, path: &Path, sealed: &[u8]) -> Result<Vec<u8>, Problem> {
        let mut outcome = Err(file::SealError::Wrong);
        for secret in self.candidates(instance)? {
            outcome = file::unseal(secret.as_bytes(), KEYS, sealed);
            if outcome.is_ok() {
                break;
            }
        }
        outcome.map_err(|error| {
            let advice = "give the --seal-key, --token or --passphrase-file it was saved with";
            Problem::new(format!("restore {}", path.display()), error, advice)
        })
    }
}

/// The cluster's keys in a snapshot, opened; none in one of etcd's.
pub(crate) fn sealed_keys(
    instance: &Instance,
    path: &Path,
    given: &Given,
) -> Result<Option<BTreeMap<String, String>>, Problem> {
    let extras = file::extras(path).map_err(|error| unusable(path, &error))?;
    let sealed = extras.iter().find(|(name, _)| name == KEYS).map(|(_, content)| content);
    sealed.map(|sealed| keys::parse(&given.open(instance, path, sealed)?)).transpose()
}

pub(super) fn restore(instance: &Instance, path: &Path, given: &Given) -> Result<(), Problem> {
    let _lock = instance.lock()?;
    let keys = sealed_keys(instance, path, given)?;
    if let Some(keys) = &keys {
        keys::check_absent(instance, keys)?;
    }
    let store = instance.server_dir().join("store");
    if fs::read_dir(&store).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Problem::new(
            format!("restore into {}", store.display()),
            "a store is there",
            crate::snapshot::MAKE_ROOM,
        ));
    }
    // Keys first: a store without them would come up as a cluster that nobody knows.
    keys::write(instance, keys.as_ref().unwrap_or(&Default::default()))?;
    let revision = file::restore(path, &store).map_err(|error| unusable(path, &error))?;
    print_line(&format!("restored into {} at revision {revision}", instance.data_dir().display()))?;
    print_line(match keys {
        Some(_) => "Start the server: it is a new cluster with the old one's objects and keys.",
        None => "It holds no keys of a cluster: the server makes new ones when it starts.",
    })
}

#[cfg(test)]
mod tests;
