//! Archives in the images directory become images: all that are there at start, later ones as soon as they
//! are complete (closed after writing, or moved in). A bad one is named in an event on the node and in the
//! log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::events::{EventType, Recorder};
use k8s_openapi::api::core::v1::ObjectReference;
use serde::{Deserialize, Serialize};

use super::archive::{self, Bundle};
use super::{ImageManager, content, pause};
use crate::dirwatch::{Changes, DirWatch};
use crate::files;
use crate::runtime::Runtime;
use crate::wake::{WakeReason, Wakers};

/// What was imported from a file, so that a restart need not do it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    modified: u64,
    names: Vec<String>,
}

type Stamps = BTreeMap<String, Stamp>;

/// Makes sure that the sandbox image is there; tries for as long as the runtime does not answer.
pub(crate) async fn sandbox_image(runtime: &dyn Runtime, name: &str) {
    let Some((canonical, bundle)) = sandbox_bundle(name) else {
        let architecture = archive::architecture();
        tracing::warn!(
            image = name,
            architecture,
            "there is no sandbox program for this machine; the image must be there or be pulled"
        );
        return;
    };
    let mut delay = Duration::from_millis(20);
    loop {
        let stored = match runtime.image(name).await {
            Ok(Some(_)) => return,
            Ok(None) => runtime.import(&bundle).await,
            Err(error) => Err(error.into()),
        };
        match stored {
            Ok(()) => return await_visible(runtime, &[canonical]).await,
            Err(error) => tracing::debug!(%error, "the sandbox image is not there yet, will retry"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(2));
    }
}

fn sandbox_bundle(name: &str) -> Option<(String, Bundle)> {
    let canonical = super::name::ImageName::parse(name).ok()?.canonical();
    let bundle = pause::bundle(&canonical)?;
    Some((canonical, bundle))
}

/// The CRI side of containerd learns of images by event, a moment later.
async fn await_visible(runtime: &dyn Runtime, names: &[String]) {
    let mut delay = Duration::from_millis(2);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    for name in names {
        while tokio::time::Instant::now() < deadline {
            if matches!(runtime.image(name).await, Ok(Some(_))) {
                break;
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_millis(100));
        }
    }
}

/// What archives are imported with.
pub(crate) struct Importer {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) images: ImageManager,
    pub(crate) wakers: Wakers,
    pub(crate) recorder: Recorder,
    pub(crate) node_name: String,
    pub(crate) images_dir: PathBuf,
    pub(crate) data_dir: PathBuf,
}

/// Imports what is there, then what comes, for ever.
pub(crate) async fn run(importer: Importer) {
    let directory = importer.images_dir.clone();
    let stamps = importer.data_dir.join("imported-images.json");
    if let Err(error) = std::fs::create_dir_all(&directory) {
        tracing::warn!(directory = %directory.display(), %error, "the images directory cannot be made");
        return std::future::pending().await;
    }
    // Watch first, then look: nothing falls between.
    let watch = DirWatch::new(&directory, Changes::IN_CLOSE_WRITE | Changes::IN_MOVED_TO);
    if let Err(error) = &watch {
        tracing::warn!(%error, "new image archives will not be noticed until the next start");
    }
    import_all(&importer, &directory, &stamps).await;
    let Ok(watch) = watch else { return std::future::pending().await };
    loop {
        if let Err(error) = watch.changed().await {
            tracing::warn!(%error, "the watch of the images directory failed");
            return std::future::pending().await;
        }
        import_all(&importer, &directory, &stamps).await;
    }
}

async fn import_all(importer: &Importer, directory: &Path, stamps_file: &Path) {
    let (place, note) = (directory.to_path_buf(), stamps_file.to_path_buf());
    let (before, found) = files::blocking(move || (read_stamps(&note), archives(&place))).await;
    let mut stamps = before.clone();
    stamps.retain(|name, _| found.iter().any(|(file, _)| file_name(file) == *name));
    for (file, stamp) in found {
        let known = stamps.get(&file_name(&file));
        if let Some(known) = known
            && (known.size, known.modified) == (stamp.size, stamp.modified)
            && all_present(&*importer.runtime, &known.names).await
        {
            continue;
        }
        let names = import_one(importer, &file).await;
        stamps.insert(file_name(&file), Stamp { names, ..stamp });
    }
    if stamps != before
        && let Ok(bytes) = serde_json::to_vec(&stamps)
    {
        let note = stamps_file.to_path_buf();
        if let Err(error) = files::blocking(move || std::fs::write(note, bytes)).await {
            tracing::debug!(%error, "what was imported cannot be noted; it will be imported again");
        }
    }
}

fn read_stamps(file: &Path) -> Stamps {
    std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The archives of a directory with what tells one from a later one of the same name, sorted by name.
fn archives(directory: &Path) -> Vec<(PathBuf, Stamp)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(PathBuf, Stamp)> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tar") && path.is_file())
        .filter_map(|path| stamp_of(&path).map(|stamp| (path, stamp)))
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Stamp {
        size: metadata.len(),
        modified: u64::try_from(modified.as_nanos()).ok()?,
        names: Vec::new(),
    })
}

async fn all_present(runtime: &dyn Runtime, names: &[String]) -> bool {
    for name in names {
        if !matches!(runtime.image(name).await, Ok(Some(_))) {
            return false;
        }
    }
    true
}

/// The names that were imported; none from a bad file, which is reported.
async fn import_one(importer: &Importer, file: &Path) -> Vec<String> {
    let path = file.to_path_buf();
    let read = files::blocking(move || archive::read(&path)).await;
    let why = match read {
        Ok(bundles) => match store_all(&*importer.runtime, &bundles).await {
            Ok(names) => {
                tracing::info!(file = %file_name(file), images = %names.join(", "), "image archive imported");
                // Containers may be waiting for one of these.
                importer.images.forget_failures();
                importer.wakers.wake_all(WakeReason::Images);
                return names;
            }
            Err(error) => error.to_string(),
        },
        Err(error) => match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    };
    tracing::warn!(file = %file_name(file), %why, "image archive cannot be imported");
    let message = format!("Failed to import image archive {:?}: {why}", file_name(file));
    importer.recorder.event(
        &node_reference(&importer.node_name),
        EventType::Warning,
        "ImageImportFailed",
        message,
    );
    Vec::new()
}

async fn store_all(runtime: &dyn Runtime, bundles: &[Bundle]) -> Result<Vec<String>, content::ImportError> {
    let mut names = Vec::new();
    for bundle in bundles {
        runtime.import(bundle).await?;
        names.extend(bundle.names.iter().cloned());
    }
    await_visible(runtime, &names).await;
    Ok(names)
}

/// A node in events: its uid is its name, as upstream's kubelet has it.
pub(crate) fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_string()),
        kind: Some("Node".to_string()),
        name: Some(name.to_string()),
        uid: Some(name.to_string()),
        ..ObjectReference::default()
    }
}
