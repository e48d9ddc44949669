//! What the plugins remember of sandboxes that a reboot has ended.
//!
//! They write their notes without syncing them. After a power cut a cached result may be an empty file, with
//! which the runtime can never tear a sandbox down, and an address may be held by nobody. All of it speaks of
//! an earlier boot, and is forgotten as a whole: a sandbox without a note is torn down well.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cni;
use crate::config::Config;
use crate::error::NetworkError;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Forgets the last boot's sandboxes if this is another boot. To be called before the runtime starts.
pub fn forget_last_boot(config: &Config) -> Result<(), NetworkError> {
    let boot = fs::read_to_string(BOOT_ID)
        .map_err(|source| NetworkError::File { path: PathBuf::from(BOOT_ID), source })?;
    let note = config.state_dir.join("boot");
    match fs::read_to_string(&note) {
        Ok(noted) if noted == boot => return Ok(()),
        Ok(_) => {
            cni::remove_cached_results(&config.network_name, &config.state_dir)?;
            forget_addresses(config)?;
            tracing::info!("the machine has booted: what the network knew of earlier sandboxes is forgotten");
        }
        // The first start: there are no sandboxes yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(NetworkError::File { path: note, source }),
    }
    // Last, and whole at once: a crash before this repeats the work, and never has it done beside living
    // pods.
    let fresh = config.state_dir.join("boot.new");
    let written = fs::create_dir_all(&config.state_dir)
        .and_then(|()| fs::write(&fresh, boot))
        .and_then(|()| fs::File::open(&fresh)?.sync_all())
        .and_then(|()| fs::rename(&fresh, &note))
        .and_then(|()| fs::File::open(&config.state_dir)?.sync_all());
    written.map_err(|source| NetworkError::File { path: note, source })
}

fn forget_addresses(config: &Config) -> Result<(), NetworkError> {
    let folder = cni::addresses(&config.state_dir).join(&config.network_name);
    remove_files(&folder).map_err(|source| NetworkError::File { path: folder, source })
}

fn remove_files(folder: &Path) -> io::Result<()> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().try_for_each(|entry| fs::remove_file(entry.path())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
