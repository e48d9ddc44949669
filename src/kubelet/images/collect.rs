//! Image garbage collection: above 85 % of the disk, images that no container uses go, oldest use first,
//! until 80 %.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::ImageManager;
use crate::files;
use crate::host::Host;
use crate::node::machine;
use crate::runtime::Runtime;

const PERIOD: Duration = Duration::from_secs(300);
const HIGH: u64 = 85;
const LOW: u64 = 80;
/// Younger ones may be about to be used.
const MIN_AGE: jiff::SignedDuration = jiff::SignedDuration::from_mins(2);

/// What is collected, and where.
pub(crate) struct Collector {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) images: ImageManager,
    /// A directory on the disk that images are on.
    pub(crate) data_dir: PathBuf,
    pub(crate) sandbox_image: String,
}

pub(crate) async fn run(collector: Arc<Collector>) {
    let mut last_used: HashMap<String, Timestamp> = HashMap::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        if let Err(error) = sweep(&collector, &mut last_used).await {
            tracing::debug!(%error, "image garbage collection failed");
        }
    }
}

impl Collector {
    /// Gives up every image that no container uses; tells how many. The disk is needed for something else.
    pub(crate) async fn give_up_unused(&self) -> Result<usize, crate::runtime::RuntimeError> {
        let images = self.runtime.images().await?;
        let containers = self.runtime.containers(HashMap::new()).await?;
        let used: HashSet<&str> = containers.iter().map(|one| one.image_ref.as_str()).collect();
        let sandbox = self.runtime.image(&self.sandbox_image).await?.map(|image| image.id);
        let unused = images.into_iter().filter(|image| {
            !image.pinned && !used.contains(image.id.as_str()) && sandbox.as_ref() != Some(&image.id)
        });
        let mut given_up = 0;
        for image in unused {
            tracing::info!(image = %image.repo_tags.join(", "), bytes = image.size, "giving up an unused image: the disk is full");
            self.runtime.remove_image(&image.id).await?;
            self.images.removed(&image.id);
            given_up += 1;
        }
        Ok(given_up)
    }
}

async fn sweep(
    collector: &Collector,
    last_used: &mut HashMap<String, Timestamp>,
) -> Result<(), crate::runtime::RuntimeError> {
    let now = Timestamp::now();
    let images = collector.runtime.images().await?;
    let containers = collector.runtime.containers(HashMap::new()).await?;
    let used: HashSet<&str> = containers.iter().map(|one| one.image_ref.as_str()).collect();
    for image in &images {
        let seen = last_used.entry(image.id.clone()).or_insert(now);
        if used.contains(image.id.as_str()) {
            *seen = now;
        }
    }
    let present = images.iter().map(|image| image.id.as_str()).collect();
    collector.images.prune_records(&present, now).await;
    last_used.retain(|id, _| images.iter().any(|image| image.id == *id));
    let percent = |disk: machine::Disk| (disk.usable - disk.available) * 100 / disk.usable.max(1);
    let (host, place) = (collector.host.clone(), collector.data_dir.clone());
    let disk = files::blocking(move || host.disk(&place)).await;
    let Some(disk) = disk.filter(|disk| percent(*disk) > HIGH) else { return Ok(()) };
    let mut excess = (disk.usable - disk.available).saturating_sub(disk.usable / 100 * LOW);
    let sandbox = collector.runtime.image(&collector.sandbox_image).await?.map(|image| image.id);
    let mut candidates: Vec<_> = images
        .into_iter()
        .filter(|image| {
            !image.pinned && !used.contains(image.id.as_str()) && sandbox.as_ref() != Some(&image.id)
        })
        .filter(|image| last_used.get(&image.id).is_some_and(|at| now.duration_since(*at) > MIN_AGE))
        .collect();
    candidates.sort_by_key(|image| last_used.get(&image.id).copied());
    for image in candidates {
        if excess == 0 {
            break;
        }
        tracing::info!(image = %image.repo_tags.join(", "), bytes = image.size, "removing an unused image: the disk is full");
        collector.runtime.remove_image(&image.id).await?;
        collector.images.removed(&image.id);
        excess = excess.saturating_sub(image.size);
    }
    Ok(())
}
