//! Following a file that people or programs replace while the server runs: a configuration.
//!
//! The directory is watched, not the file: editors and mounted ConfigMaps put another file in its place.
//! Whoever follows is given the content whenever it may have changed, and tells by itself whether it has.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

/// How long a directory that cannot be watched is left alone.
const AGAIN: Duration = Duration::from_secs(60);

/// Calls back with the file's content, first at once. Never ends.
pub async fn follow<F>(path: PathBuf, mut changed: impl FnMut(io::Result<Vec<u8>>) -> F)
where
    F: Future<Output = ()>,
{
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    loop {
        if let Err(error) = watch(&path, &folder, &mut changed).await {
            tracing::warn!(folder = %folder.display(), %error, "a directory cannot be watched for changes");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Lets tokio wait on it.
struct Watched(Inotify);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

async fn watch<F>(
    path: &Path,
    folder: &Path,
    changed: &mut impl FnMut(io::Result<Vec<u8>>) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()>,
{
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let changes = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
    inotify.add_watch(folder, changes)?;
    #[allow(deprecated, reason = "`register` is not in the oldest tokio we build with")]
    let directory = AsyncFd::new(Watched(inotify))?;
    loop {
        // After the watch began, so that no change falls between the two.
        changed(tokio::fs::read(path).await).await;
        loop {
            let mut ready = directory.readable().await?;
            match directory.get_ref().0.read_events() {
                Ok(_) => break,
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
