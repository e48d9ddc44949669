//! Log rotation: a log that has grown too large is moved aside and the runtime writes a new one; some files
//! are kept, all but the newest two packed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::LogLimits;
use crate::files;
use crate::runtime::{Runtime, labels};

const PERIOD: Duration = Duration::from_secs(10);

/// Rotates the logs of the containers that carry this node's label.
pub(crate) async fn run(
    runtime: Arc<dyn Runtime>,
    log_dir: PathBuf,
    instance_label: String,
    limits: LogLimits,
) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let directory = log_dir.clone();
        let large = files::blocking(move || large_logs(&directory, limits.largest)).await;
        if large.is_empty() {
            continue;
        }
        let mine = [(labels::INSTANCE.to_string(), instance_label.clone())].into();
        let Ok(containers) = runtime.containers(mine).await else { continue };
        let running = k8s_cri::v1::ContainerState::ContainerRunning as i32;
        for one in containers.into_iter().filter(|one| one.state == running) {
            let Ok(status) = runtime.container(&one.id).await else { continue };
            let path = PathBuf::from(status.log_path);
            if large.contains(&path) {
                rotate(&*runtime, &one.id, &path, limits.files).await;
            }
        }
    }
}

/// Logs that have grown too large: `DIRECTORY/POD/CONTAINER/N.log`.
fn large_logs(directory: &Path, largest: u64) -> Vec<PathBuf> {
    let children = |directory: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let containers = children(directory).into_iter().flat_map(|pod| children(&pod));
    containers
        .flat_map(|container| children(&container))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter(|path| std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > largest))
        .collect()
}

async fn rotate(runtime: &dyn Runtime, id: &str, path: &Path, kept: usize) {
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut aside = path.as_os_str().to_os_string();
    aside.push(format!(".{stamp}"));
    let aside = PathBuf::from(aside);
    if let Err(error) = std::fs::rename(path, &aside) {
        tracing::warn!(path = %path.display(), %error, "log cannot be rotated");
        return;
    }
    if let Err(error) = runtime.reopen_log(id).await {
        tracing::warn!(container = %id, %error, "the runtime does not open a new log");
        // Better one large log than one that nobody finds.
        let _ = std::fs::rename(&aside, path);
        return;
    }
    let path = path.to_path_buf();
    if let Err(error) = files::blocking(move || tidy(&path, kept)).await {
        tracing::debug!(%error, "old logs were not packed");
    }
}

/// Packs and removes rotated files of a log, oldest first.
fn tidy(path: &Path, kept: usize) -> io::Result<()> {
    let mut rotated = rotated(path)?;
    rotated.sort();
    while rotated.len() >= kept {
        std::fs::remove_file(rotated.remove(0))?;
    }
    // The newest may still be followed by a reader.
    rotated.pop();
    for file in rotated {
        if file.extension().is_some_and(|extension| extension == "gz") {
            continue;
        }
        let mut packed = file.as_os_str().to_os_string();
        packed.push(".gz");
        let packed = PathBuf::from(packed);
        let mut encoder =
            flate2::write::GzEncoder::new(std::fs::File::create(&packed)?, flate2::Compression::default());
        io::copy(&mut files::open(&file, files::Links::Refuse)?, &mut encoder)?;
        encoder.finish()?;
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(parent) = path.parent() else { return Ok(Vec::new()) };
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let entries = std::fs::read_dir(parent)?.flatten();
    Ok(entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_files_of_a_log_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("0.log");
        std::fs::write(&log, "0").unwrap();
        for number in 1..=6 {
            std::fs::write(folder.path().join(format!("0.log.2026010{number}-000000")), number.to_string())
                .unwrap();
        }
        tidy(&log, 3).unwrap();
        let mut names: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.20260105-000000.gz", "0.log.20260106-000000"]);
        assert_eq!(
            large_logs(folder.path(), 0),
            Vec::<PathBuf>::new(),
            "they lie two directories further down"
        );
    }

    #[test]
    fn a_log_is_large_above_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("pod/container");
        std::fs::create_dir_all(&place).unwrap();
        for (name, length) in [("0.log", 10), ("1.log", 11), ("1.log.20260101-000000", 12)] {
            std::fs::write(place.join(name), vec![b'x'; length]).unwrap();
        }
        assert_eq!(large_logs(folder.path(), 10), [place.join("1.log")]);
    }
}
