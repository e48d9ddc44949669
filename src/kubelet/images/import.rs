//! Archives in the images directory become images: all that are there at start, later ones as soon as they
//! are complete (closed after writing, or moved in). A bad one is named in an event on the node and in the
//! log.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Why it could not be imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
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
#[derive(Clone)]
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
    let stamps = stamps_file(&importer.data_dir);
    if let Err(error) = std::fs::create_dir_all(&directory) {
        tracing::warn!(directory = %directory.display(), %error, "the images directory cannot be made");
        return std::future::pending().await;
    }
    // Watch first, then look: nothing falls between.
    let watch = DirWatch::new(&directory, Changes::IN_CLOSE_WRITE | Changes::IN_MOVED_TO);
    if let Err(error) = &watch {
        tracing::warn!(%error, "new image archives will not be noticed until the next start");
    }
    let mut ignored = BTreeSet::new();
    name_ignored(&directory, &mut ignored).await;
    import_all(&importer, &directory, &stamps).await;
    let Ok(watch) = watch else { return std::future::pending().await };
    loop {
        if let Err(error) = watch.changed().await {
            tracing::warn!(%error, "the watch of the images directory failed");
            return std::future::pending().await;
        }
        name_ignored(&directory, &mut ignored).await;
        import_all(&importer, &directory, &stamps).await;
    }
}

/// Says once of each file that it is ignored.
async fn name_ignored(directory: &Path, told: &mut BTreeSet<String>) {
    let place = directory.to_path_buf();
    let now = files::blocking(move || others(&place)).await;
    for file in now.difference(told) {
        tracing::warn!(
            file,
            "not an image archive by its name (.tar, .tar.gz, .tgz, .tar.zst): it is ignored"
        );
    }
    *told = now;
}

fn stamps_file(data_dir: &Path) -> PathBuf {
    data_dir.join("imported-images.json")
}

/// Archives that are there and could not be imported, with the reasons.
pub(crate) fn failed(data_dir: &Path, images_dir: &Path) -> Vec<(String, String)> {
    let stamps = read_stamps(&stamps_file(data_dir)).into_iter();
    let failed = stamps.filter_map(|(name, stamp)| Some((name, stamp.why?)));
    failed.filter(|(name, _)| images_dir.join(name).exists()).collect()
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
        let stamp = match import_one(importer, &file).await {
            Ok(names) => Stamp { names, ..stamp },
            Err(error) => Stamp { why: Some(error.to_string()), ..stamp },
        };
        stamps.insert(file_name(&file), stamp);
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
        .filter(|path| archive::stem(&file_name(path)).is_some() && path.is_file())
        .filter_map(|path| stamp_of(&path).map(|stamp| (path, stamp)))
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Files that are not called as archives are, but for hidden ones: somebody may still be writing them.
fn others(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file()).map(|entry| file_name(&entry.path()));
    files.filter(|name| !name.starts_with('.') && archive::stem(name).is_none()).collect()
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
        ..Stamp::default()
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

/// Why an archive is not imported.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ImportFailure(Box<str>);

impl From<archive::ArchiveError> for ImportFailure {
    fn from(error: archive::ArchiveError) -> Self {
        let text = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        ImportFailure(text.into())
    }
}

impl From<content::ImportError> for ImportFailure {
    fn from(error: content::ImportError) -> Self {
        ImportFailure(error.to_string().into())
    }
}

/// Imports an archive from anywhere; answers with the names of its images.
pub(crate) async fn import(importer: &Importer, file: &Path) -> Result<Vec<String>, ImportFailure> {
    let (path, scratch) = (file.to_path_buf(), importer.data_dir.clone());
    let bundles = files::blocking(move || archive::read(&path, &scratch)).await?;
    let names = store_all(&*importer.runtime, &bundles).await?;
    tracing::info!(file = %file_name(file), images = %names.join(", "), "image archive imported");
    // Containers may be waiting for one of these.
    importer.images.forget_failures();
    importer.wakers.wake_all(WakeReason::Images);
    Ok(names)
}

/// An archive of the images directory; why it is not imported is reported.
async fn import_one(importer: &Importer, file: &Path) -> Result<Vec<String>, ImportFailure> {
    let error = match import(importer, file).await {
        Ok(names) => return Ok(names),
        Err(error) => error,
    };
    let why = error.to_string();
    tracing::warn!(file = %file_name(file), %why, "image archive cannot be imported");
    let message = format!("Failed to import image archive {:?}: {why}", file_name(file));
    importer.recorder.event(
        &node_reference(&importer.node_name),
        EventType::Warning,
        "ImageImportFailed",
        message,
    );
    Err(error)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_others_and_failures_of_a_directory_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.tar.gz", "a.tar", "note.txt", ".a.tar.part", "c.zip"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let names: Vec<String> = archives(folder.path()).iter().map(|(path, _)| file_name(path)).collect();
        assert_eq!(names, ["a.tar", "b.tar.gz"]);
        assert_eq!(others(folder.path()), ["c.zip".to_string(), "note.txt".to_string()].into());

        let stamps = r#"{"a.tar": {"size": 1, "modified": 2, "names": ["a:1"]},
                         "b.tar.gz": {"size": 1, "modified": 2, "names": [], "why": "it is cut short"},
                         "gone.tar": {"size": 1, "modified": 2, "names": [], "why": "it is cut short"}}"#;
        std::fs::write(stamps_file(folder.path()), stamps).unwrap();
        assert_eq!(
            failed(folder.path(), folder.path()),
            [("b.tar.gz".to_string(), "it is cut short".to_string())]
        );
    }
}
