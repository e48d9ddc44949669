//! The thread behind the writer: brings the applied state to sled, and gives memory back when it is quiet.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use crate::checkpoint::{CheckpointError, Checkpoints, Job};
use crate::inbox::Shared;
use crate::replica::LogId;

/// Quiet time after which memory is given back.
const QUIET: Duration = Duration::from_secs(2);

/// The thread that writes checkpoints: ends when the writer does.
pub(crate) fn checkpointer(mut checkpoints: Checkpoints, jobs: &Receiver<Job>, shared: &Shared) {
    // Opening has read everything once, too.
    let mut used = true;
    loop {
        let job = match if used { jobs.recv_timeout(QUIET) } else { jobs.recv().map_err(Into::into) } {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                give_back_memory();
                used = false;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        used = true;
        let upto = LogId { term: job.description.term, index: job.description.index };
        let started = Instant::now();
        let written = checkpoints.write(job).map(|()| upto).map_err(|e: CheckpointError| e.to_string());
        shared.metrics.backend_commit.observe(started.elapsed());
        shared.state_bytes.store(checkpoints.bytes(), Ordering::Relaxed);
        shared.all_due.store(checkpoints.wants_all(), Ordering::Relaxed);
        shared.kept.store(checkpoints.kept, Ordering::Relaxed);
        if written.is_ok() {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            shared.checkpointed.store(now.as_secs(), Ordering::Relaxed);
        }
        shared.checkpoint_done(written);
    }
}

/// sled takes several times a checkpoint's size in small pieces and frees them; glibc would keep the pages for itself.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time from any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
