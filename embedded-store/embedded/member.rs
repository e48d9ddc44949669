//! A store as a member of a group: one that becomes a group of its own while it runs, and one that is opened
//! as a member.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Config, DirectoryLock, EmbeddedStore, Loaded, OpenError, Recovery, load};
use crate::consensus::ids::Membership;
use crate::consensus::storage::LogStorage;
use crate::consensus::{Consensus, ReadIndex};
use crate::group::{self, Group, GroupError, Identity, Prepared, Settings, Transport, marker};
use crate::log::disk::Disk;
use crate::snapshot;
use crate::state::State;
use crate::types::StoreError;

/// Reads a snapshot that another member has sent.
fn read(file: &[u8]) -> io::Result<State> {
    snapshot::contents(Path::new("a snapshot of another server"), file).map_err(io::Error::other)
}

impl EmbeddedStore {
    /// Makes a store that is alone the first member of a group, while it runs. Other members will find it at
    /// `address`.
    pub async fn found_group(
        self: &Arc<Self>,
        address: &str,
        transport: Arc<dyn Transport>,
        settings: &Settings,
    ) -> Result<Group, GroupError> {
        let (store, address, lazy) = (Arc::clone(self), Bytes::from(address.to_string()), settings.lazy);
        let prepared = tokio::task::spawn_blocking(move || store.enter_group(address, lazy)).await;
        let prepared = prepared.map_err(|e| GroupError::Failed(e.to_string()))??;
        prepared.launch(transport, settings).await
    }

    /// Opens a member of a group. The directory is one that an earlier start left, or becomes that of a new
    /// member of `cluster`.
    pub async fn open_member(
        config: Config,
        cluster: u64,
        transport: Arc<dyn Transport>,
        settings: &Settings,
    ) -> Result<(Arc<Self>, Recovery, Group), OpenError> {
        let (dir, lazy) = (config.dir.clone(), settings.lazy);
        let opening = tokio::task::spawn_blocking(move || {
            let (disk, lock) = EmbeddedStore::take_directory(&config)?;
            Self::load_member(config, disk, Some(lock), cluster, lazy)
        });
        let failed = |source| OpenError::Io { path: dir.clone(), source };
        let (store, recovery, prepared) = opening.await.map_err(|e| failed(io::Error::other(e)))??;
        let group = prepared.launch(transport, settings).await.map_err(|e| failed(io::Error::other(e)))?;
        Ok((store, recovery, group))
    }

    /// Reads a member's directory, on a given disk. Blocks.
    pub(crate) fn load_member(
        config: Config,
        disk: Arc<dyn Disk>,
        lock: Option<DirectoryLock>,
        cluster: u64,
        lazy: Duration,
    ) -> Result<(Arc<Self>, Recovery, Prepared), OpenError> {
        let io = |source| OpenError::Io { path: config.dir.clone(), source };
        let known = marker::identity(&config.dir).map_err(io)?;
        let loaded: Loaded = load(&config, &disk, false)?;
        let identity = Identity { cluster, member: loaded.log.store() };
        match known {
            Some(known) if known != identity => {
                return Err(OpenError::OtherGroup { dir: config.dir.clone(), cluster: known.cluster });
            }
            Some(_) => {}
            None if loaded.state.index > 0 || loaded.log.state().last.index > 0 => {
                return Err(OpenError::Alone { dir: config.dir.clone() });
            }
            None => marker::write(&config.dir, identity).map_err(io)?,
        }
        let mut prepared = None;
        let (store, recovery) = EmbeddedStore::start(config, disk, lock, loaded, |member| {
            let (agreement, parts) =
                group::prepare(identity, &member.shared, &member.stamps, Box::new(member.log), lazy, read);
            // Until it is known who leads.
            member.shared.lessor.demote(None);
            prepared = Some(parts);
            Ok(Box::new(agreement) as Box<dyn Consensus>)
        })?;
        let missing =
            || OpenError::Io { path: store.dir().to_path_buf(), source: io::ErrorKind::Other.into() };
        let prepared = prepared.ok_or_else(missing)?;
        Ok((store, recovery, prepared))
    }

    /// How a member finds what is current; `None` for a store that is alone.
    pub(super) fn group_reads(&self) -> Option<&Arc<dyn ReadIndex>> {
        self.reads.get()
    }

    /// Makes this store, which is alone, the only member of a group: another engine goes on with its log.
    /// Nothing is written meanwhile. Blocks.
    pub(crate) fn enter_group(&self, address: Bytes, lazy: Duration) -> Result<Prepared, GroupError> {
        let own = self.store;
        let identity = Identity { cluster: own, member: own };
        let mut slot = self.writer.lock();
        let Some(mut writer) = slot.take() else {
            return Err(GroupError::Failed(StoreError::Stopped.to_string()));
        };
        if self.reads.get().is_some() {
            *slot = Some(writer);
            return Err(GroupError::Member);
        }
        let members = Membership { configs: vec![vec![own]], members: vec![(own, address)] };
        let (consensus, outcome) = match writer.consensus.retire(members) {
            Ok(log) => {
                // The record is on disk: a crash before this leaves a store that is alone and knows itself.
                let marked = marker::write(&self.dir, identity);
                let (agreement, prepared) =
                    group::prepare(identity, &self.shared, &writer.stamps, log, lazy, read);
                if let Some(reads) = agreement.reads() {
                    let _ = self.reads.set(reads);
                }
                (Box::new(agreement) as Box<dyn Consensus>, marked.map(|()| prepared))
            }
            Err((consensus, e)) => (consensus, Err(e)),
        };
        writer.consensus = consensus;
        *slot = Some(writer);
        Ok(outcome?)
    }
}
