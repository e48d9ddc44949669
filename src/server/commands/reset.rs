//! `minik8s server reset`: makes a server whose group has lost its majority a cluster of its own, from what
//! it has itself or from a snapshot.
//!
//! The new store is made beside the old one and changes places with it in one step. It has another identity,
//! so the servers of the old group are strangers to it until they join it. The old store is kept.

use std::fs;
use std::path::{Path, PathBuf};

use agent::command::print_line;
use agent::problem::chain;
use agent::{Instance, Problem, files};
use embedded_store::{detach, group, snapshot};

use super::snapshot::{Given, sealed_keys};
use crate::snapshot::keys;

struct Places {
    store: PathBuf,
    /// Where the new store is made.
    fresh: PathBuf,
}

pub(super) fn reset(instance: &Instance, from: Option<&Path>, given: &Given) -> Result<(), Problem> {
    let what = || format!("reset the server of {}", instance.data_dir().display());
    let folder = instance.server_dir();
    let places = Places { store: folder.join("store"), fresh: folder.join("store.reset") };
    if !places.store.is_dir() {
        let advice = "give the server's --data-dir";
        return Err(Problem::new(what(), "there is no server's data", advice));
    }
    let _lock = instance.lock()?;
    let member = group::identity(&places.store).map_err(|error| {
        let advice = "give --snapshot to begin with a snapshot instead";
        Problem::new(format!("read {}", places.store.display()), error, advice)
    })?;
    if member.is_none() && from.is_none() {
        let why = "it is a cluster of its own already";
        return Err(Problem::new(what(), why, "start it, or give --snapshot to go back to one"));
    }
    places.clear()?;
    let revision = match from {
        Some(file) => {
            if let Some(sealed) = sealed_keys(instance, file, given)? {
                keys::check_authorities(instance, &sealed)?;
            }
            let restored = snapshot::restore(file, &places.fresh);
            restored.map_err(|error| {
                Problem::new(format!("use {}", file.display()), chain(&error), "give another --snapshot")
            })?
        }
        None => detach(&places.store, &places.fresh).map_err(|error| {
            Problem::new(what(), chain(&error), "give --snapshot to begin with a snapshot instead")
        })?,
    };
    files::exchange(&places.fresh, &places.store)?;
    let kept = match member {
        Some(member) => format!("store.before-{:016x}", member.member),
        None => format!("store.before-revision-{revision}"),
    };
    let kept = folder.join(kept);
    files::rename(&places.fresh, &kept)?;
    print_line(&format!(
        "{} is a cluster of its own, at revision {revision}.
\
         The store that it had is kept in {}: remove it once nobody misses anything.
\
         Start the server, without --server. The others come back by
  \
         minik8s server --server https://THIS-SERVER:6443 --rejoin",
        instance.data_dir().display(),
        kept.display()
    ))
}

impl Places {
    /// What an earlier reset has left half made is made anew; a store that was in use is kept.
    fn clear(&self) -> Result<(), Problem> {
        let failed = |error: std::io::Error| {
            let advice = "move it away, and reset again";
            Problem::new(format!("make room for {}", self.fresh.display()), error, advice)
        };
        match group::identity(&self.fresh) {
            Ok(Some(member)) => {
                let kept = self.store.with_file_name(format!("store.before-{:016x}", member.member));
                files::rename(&self.fresh, &kept)
            }
            _ if self.fresh.exists() => fs::remove_dir_all(&self.fresh).map_err(failed),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
