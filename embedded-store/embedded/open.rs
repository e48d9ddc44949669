//! Reads a store's directory and reports what was found.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use super::error::OpenError;
use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::clock::Stamps;
use crate::consensus::Consensus;
use crate::consensus::ids::{LogId, Vote};
use crate::consensus::single::Single;
use crate::consensus::storage::LogStorage;
use crate::identity::new_identity;
use crate::log::disk::Disk;
use crate::log::{self, Log, Opened};
use crate::state::State;
use crate::state::core::Core;
use crate::writer::queue::Shared;

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Revision the store goes on from.
    pub revision: u64,
    /// Records replayed from the log.
    pub replayed: u64,
    /// A torn write at the end of the log that was cut off, in words.
    pub torn_tail: Option<String>,
    /// The applied state was damaged and has been rebuilt from the log, in words.
    pub rebuilt: Option<String>,
}

pub(crate) struct Loaded {
    pub(crate) state: State,
    pub(crate) checkpoints: Checkpoints,
    /// Time of the newest record in it, in seconds since 1970.
    pub(crate) checkpointed: u64,
    pub(crate) log: Log,
    pub(crate) recovery: Recovery,
}

/// Reads a directory: the applied state and the log after it.
///
/// `alone` says that all of the log is committed, as it is for a single server; otherwise the state stays
/// where the last checkpoint was, until the group says how far it may go.
pub(crate) fn load(config: &Config, disk: &Arc<dyn Disk>, alone: bool) -> Result<Loaded, OpenError> {
    let path = config.dir.join("state");
    let mut recovery = Recovery::default();
    let opened = Checkpoints::open(&path).and_then(|mut c| c.load(config.history).map(|found| (c, found)));
    let (checkpoints, found) = match opened {
        Ok(opened) => opened,
        Err(CheckpointError::Io { path, source }) => return Err(OpenError::Io { path, source }),
        Err(CheckpointError::Damaged { path: at, what }) => {
            let what = what.to_string();
            // Nothing is lost if the log still reaches back to the beginning.
            if !log::reaches_back(&**disk) {
                return Err(OpenError::Damaged { path: at, what });
            }
            set_aside(&path)?;
            recovery.rebuilt = Some(format!("{}: {what}", at.display()));
            (Checkpoints::open(&path)?, None)
        }
    };
    let (mut state, description) = match found {
        Some((state, description)) => (state, Some(description)),
        None => (State::new(config.history), None),
    };
    if description.is_none() && log::begins_late(&**disk) {
        let what = "it is empty, although the log begins after it: sled lost what it held".to_string();
        return Err(OpenError::Damaged { path, what });
    }
    state.dirty = Some(Default::default());
    let applied = state.index;
    let checkpointed = state.time / 1000;
    let store = description.map(|d| d.store);
    let started = Instant::now();
    let replayed = Log::open(disk, config.segment_bytes, store, applied, |record| {
        if alone {
            state.apply(&record);
            recovery.replayed += 1;
        }
    })?;
    let log = match replayed {
        Some(Opened { log, torn }) if log.state().last.index >= applied => {
            recovery.torn_tail = torn;
            log
        }
        Some(Opened { torn, mut log }) => {
            // The state has everything that the log lost, so the log restarts behind it.
            let lost = torn.unwrap_or_else(|| format!("the log ends before record {applied}"));
            recovery.torn_tail = Some(lost);
            let io = |source| OpenError::Io { path: disk.path(), source };
            log.purge(LogId { term: state.term, index: applied }).map_err(io)?;
            log
        }
        None if applied > 0 => {
            let what = format!("the log is missing, the state is that of record {applied}");
            return Err(OpenError::Damaged { path: disk.path(), what });
        }
        None => Log::create(Arc::clone(disk), config.segment_bytes, new_identity(), 1)?,
    };
    tracing::debug!(replayed = recovery.replayed, took = ?started.elapsed(), "the log is read");
    Ok(Loaded { state, checkpoints, checkpointed, log, recovery })
}

/// What a member contributes to its group.
pub(crate) struct Member {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    pub(crate) stamps: Arc<Stamps>,
    pub(crate) lazy_flush: Duration,
}

impl Member {
    /// A group of one.
    pub(super) fn alone(mut self) -> io::Result<Box<dyn Consensus>> {
        let newest = self.shared.core.state.read().term;
        let term = lead(&mut self.log, newest)?;
        let machine = Arc::<Core>::clone(&self.shared.core);
        let Member { shared, log, stamps, lazy_flush } = self;
        Ok(Box::new(Single::start(shared, term, Box::new(log), machine, stamps, lazy_flush)?))
    }
}

/// The only member of the group votes for itself, once. Returns the term in which it writes.
fn lead(log: &mut Log, newest: u64) -> io::Result<u64> {
    if let Some(vote) = log.vote() {
        return Ok(vote.term);
    }
    let vote = Vote { term: newest.max(1), member: log.store(), committed: true };
    log.save_vote(vote)?;
    Ok(vote.term)
}

/// Keeps a damaged state for whoever wants to look at it.
fn set_aside(path: &Path) -> Result<(), OpenError> {
    let aside = path.with_extension("damaged");
    let io = |source| OpenError::Io { path: aside.clone(), source };
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(io)?;
    }
    fs::rename(path, &aside).map_err(io)
}
