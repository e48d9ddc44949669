//! Waiting for changes in a directory, through inotify.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

pub(crate) use nix::sys::inotify::AddWatchFlags as Changes;

/// Lets tokio wait on it; owns the descriptor as long as the inotify instance lives.
struct Watched(Inotify);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

pub(crate) struct DirWatch(AsyncFd<Watched>);

impl DirWatch {
    pub(crate) fn new(directory: &Path, changes: AddWatchFlags) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(directory, changes)?;
        #[allow(deprecated, reason = "`register` is not in the oldest tokio we build with")]
        AsyncFd::new(Watched(inotify)).map(DirWatch)
    }

    /// Returns after a change; several changes can be one.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().0.read_events() {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
