//! The checkpointer: a thread that writes the applied state to sled.
//!
//! After a failure sled refuses all further work, and it is unknown what it holds. So it is closed, and the
//! next checkpoint opens it again and writes everything. The writer decides when to try again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Instant, SystemTime};

use crate::checkpoint::{CheckpointError, CheckpointFailure, Checkpoints, Damage, Job, close, damaged};
use crate::consensus::ids::LogId;
use crate::writer::queue::Shared;

/// Writes one checkpoint after the other; ends when the writer does.
pub(crate) fn checkpointer(checkpoints: Checkpoints, jobs: &Receiver<Job>, shared: &Shared) {
    let mut target = Target {
        path: checkpoints.path().to_path_buf(),
        garbage_allowance: checkpoints.garbage_allowance,
        open: Some(checkpoints),
    };
    while let Ok(job) = jobs.recv() {
        let upto = LogId { term: job.description.term, index: job.description.index };
        let started = Instant::now();
        let written = target.write(job);
        shared.metrics.backend_commit.observe(started.elapsed());
        let written = match written {
            Ok(checkpoints) => {
                shared.state_bytes.store(checkpoints.bytes(), Ordering::Relaxed);
                shared.full_due.store(checkpoints.wants_all(), Ordering::Relaxed);
                shared.rewrite_failed.store(checkpoints.rewrite_failed, Ordering::Relaxed);
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                shared.checkpointed.store(now.as_secs(), Ordering::Relaxed);
                Ok(upto)
            }
            Err(e) => Err(CheckpointFailure::Failed(Arc::new(e))),
        };
        shared.checkpoint_done(written);
    }
}

/// Where checkpoints go.
struct Target {
    path: PathBuf,
    garbage_allowance: u64,
    /// `None` after a failure.
    open: Option<Checkpoints>,
}

impl Target {
    fn write(&mut self, job: Job) -> Result<&Checkpoints, CheckpointError> {
        let mut open = self.open.take();
        // sled panics on some failures of the disk.
        let written = catch_unwind(AssertUnwindSafe(|| match &mut open {
            Some(checkpoints) => checkpoints.write(job),
            None => {
                Checkpoints::write_again(&self.path, self.garbage_allowance, job).map(|new| open = Some(new))
            }
        }));
        let written = written.unwrap_or_else(|_| Err(damaged(&self.path, Damage::Unwritable)));
        match (written, open) {
            (Ok(()), Some(checkpoints)) => Ok(self.open.insert(checkpoints)),
            (Ok(()), None) => Err(damaged(&self.path, Damage::NotOpen)),
            (Err(e), open) => {
                if let Some(failed) = open {
                    // It panics again where it cannot be closed; what it holds open is then gone with it.
                    let _ = close(failed);
                }
                Err(e)
            }
        }
    }
}
