//! `minik8s snapshot restore`: opens the sealed keys with what is given, and makes the data directory.

use std::fs;
use std::path::{Path, PathBuf};

use agent::token::Token;
use agent::{Instance, Problem};
use embedded_store::snapshot as file;

use super::{first_line, unusable};
use crate::secrets;
use crate::snapshot::{KEYS, keys};

/// Secrets that a user gives for opening the sealed keys.
pub(super) struct Given {
    pub(super) seal_key: Option<String>,
    pub(super) token: Option<String>,
    pub(super) passphrase_file: Option<PathBuf>,
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

pub(super) fn restore(instance: &Instance, path: &Path, given: &Given) -> Result<(), Problem> {
    let _lock = instance.lock()?;
    let extras = file::extras(path).map_err(|error| unusable(path, &error))?;
    let sealed = extras.iter().find(|(name, _)| name == KEYS).map(|(_, content)| content);
    let keys = match sealed {
        Some(sealed) => {
            let keys = keys::parse(&given.open(instance, path, sealed)?)?;
            keys::check_absent(instance, &keys)?;
            Some(keys)
        }
        None => None,
    };
    let store = instance.server_dir().join("store");
    if fs::read_dir(&store).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Problem::new(
            format!("restore into {}", store.display()),
            "a store is there",
            "move the data directory away, or give another --data-dir",
        ));
    }
    // Keys first: a store without them would come up as a cluster that nobody knows.
    keys::write(instance, keys.as_ref().unwrap_or(&Default::default()))?;
    let revision = file::restore(path, &store).map_err(|error| unusable(path, &error))?;
    println!("restored into {} at revision {revision}", instance.data_dir().display());
    match keys {
        Some(_) => println!("Start the server: it is a new cluster with the old one's objects and keys."),
        None => println!("It holds no keys of a cluster: the server makes new ones when it starts."),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::seal_key;

    #[test]
    fn old_snapshots_are_opened_by_the_token_and_new_ones_by_any_key_that_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let instance = Instance::of(folder.path()).unwrap();
        agent::files::private_directory(&instance.server_dir()).unwrap();
        let given = |seal_key: Option<&str>, token: Option<&str>| Given {
            seal_key: seal_key.map(str::to_string),
            token: token.map(str::to_string),
            passphrase_file: None,
        };
        let may_open = |seal_key, token| given(seal_key, token).candidates(&instance).unwrap();
        let nothing = given(None, None).candidates(&instance).unwrap_err().to_string();
        assert!(nothing.contains("no secret is given"), "{nothing}");
        let token = Token { ca_hash: None, secret: "of-the-token".into() }.full("CA", "server");
        assert_eq!(may_open(None, Some(&token)), ["of-the-token"]);
        assert_eq!(may_open(Some("one\ntwo\n"), Some(&token)), ["one", "two", "of-the-token"]);
        // From the data directory: all keys, and the token that sealed before there were any.
        std::fs::write(instance.server_dir().join("token"), &token).unwrap();
        assert_eq!(may_open(None, None), ["of-the-token"]);
        let first = secrets::rotate_seal_key(&instance).unwrap();
        let second = secrets::rotate_seal_key(&instance).unwrap();
        assert_eq!(seal_key(&instance).unwrap(), second, "the newest seals");
        assert_eq!(may_open(None, None), [second, first.clone(), "of-the-token".to_string()]);

        // Deriving a key takes its time, so only this once: the right one need not be the first.
        let old = file::seal(b"of-the-token", KEYS, b"keys").unwrap();
        let open = |given: Given| given.open(&instance, Path::new("file"), &old);
        assert_eq!(open(given(Some(&first), Some(&token))).unwrap(), b"keys");
        let refused = open(given(Some(&first), None)).unwrap_err().to_string();
        assert!(refused.contains("was not sealed with this secret"), "{refused}");
    }
}
