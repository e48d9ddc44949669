//! Brings unpacked images onto the disk.
//!
//! containerd notes an image as unpacked durably, but leaves its files to the kernel's write-back (an option
//! to sync them came with 2.1). A power cut in the half minute between leaves an image of empty files that
//! nothing unpacks again. An image is unpacked at the latest when its first container is made, so the file
//! system is synced once after that.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;

use parking_lot::Mutex;
use supervisor::{OnExit, Stage};

use crate::runtime::Runtime;

/// Images whose files are known to be on the disk.
#[derive(Clone, Default)]
pub(super) struct Settled(Arc<Mutex<HashSet<String>>>);

impl Settled {
    /// To be called after a container was made of an image; the work is done beside.
    pub(super) fn used(&self, runtime: &Arc<dyn Runtime>, stage: &Stage, image: &str) {
        if !self.0.lock().insert(image.to_string()) {
            return;
        }
        let (known, runtime, image) = (self.clone(), runtime.clone(), image.to_string());
        stage.spawn_cancellable("image sync", OnExit::Done, async move {
            if let Err(error) = sync(&*runtime).await {
                tracing::warn!(image, %error, "an image's files are not synced to the disk; the next container tries again");
                known.0.lock().remove(&image);
            }
        });
    }

    /// Images that were removed may come again.
    pub(super) fn forget(&self, image: &str) {
        self.0.lock().remove(image);
    }
}

#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error(transparent)]
    Runtime(#[from] crate::runtime::RuntimeError),
    #[error("cannot sync {path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("the sync was given up: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

async fn sync(runtime: &dyn Runtime) -> Result<(), SyncError> {
    for path in runtime.image_file_systems().await? {
        let synced = path.clone();
        let done = tokio::task::spawn_blocking(move || {
            let folder = File::open(&synced)?;
            nix::unistd::syncfs(folder).map_err(std::io::Error::from)
        });
        done.await?.map_err(|source| SyncError::File { path, source })?;
    }
    Ok(())
}
