//! What all back ends share: the state behind its lock, its watches and its observers.
//!
//! A back end decides when a record is committed (at once in memory, otherwise after agreement) and passes it
//! to [`Core::apply`], one caller at a time. Everything else only reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::consensus::ids::{LogId, Membership};
use crate::consensus::storage::StateMachine;
use crate::log::record::Record;
use crate::state::frozen::Frozen;
use crate::state::history::HistoryLimits;
use crate::state::watch::{Cursor, Hub, Notifier};
use crate::state::{ApplyOutcome, Change, State};
use crate::types::{Event, LeaseId, LeaseInfo, Observer, StoreError, WatchRequest, WatchStream};

#[derive(Clone)]
struct Subscription {
    /// It is told about revisions after this one.
    after: u64,
    observer: Observer,
}

pub(crate) struct Core {
    pub(crate) state: RwLock<State>,
    pub(crate) hub: Hub,
    observers: RwLock<Vec<Subscription>>,
    /// The newest revision that watches and observers have been told of.
    published: AtomicU64,
    stopped: AtomicBool,
    /// Held while a record is applied and published: revisions reach observers in order.
    order: Mutex<()>,
}

impl Core {
    pub(crate) fn new(limits: HistoryLimits) -> Arc<Self> {
        Self::with_state(State::new(limits))
    }

    pub(crate) fn with_state(state: State) -> Arc<Self> {
        Arc::new(Core {
            published: AtomicU64::new(state.revision),
            state: RwLock::new(state),
            hub: Hub::default(),
            observers: RwLock::default(),
            stopped: AtomicBool::new(false),
            order: Mutex::default(),
        })
    }

    /// For a back end that builds the record while it holds the order.
    pub(crate) fn apply_next(
        &self,
        record: impl FnOnce(&State) -> Record,
    ) -> Result<ApplyOutcome, StoreError> {
        let _order = self.order.lock();
        let record = record(&self.state.read());
        self.apply_ordered(&[record]).pop().unwrap_or(Err(StoreError::Stopped))
    }

    fn apply_ordered(&self, records: &[Record]) -> Vec<Result<ApplyOutcome, StoreError>> {
        let mut outcomes = Vec::with_capacity(records.len());
        let mut changes: Vec<Change> = Vec::with_capacity(records.len());
        let revision = {
            let mut state = self.state.write();
            for record in records {
                outcomes.push(state.apply_noting(record, &mut changes));
            }
            state.revision
        };
        if !changes.is_empty() {
            self.hub.publish(&changes);
            self.tell_observers(&changes);
        }
        self.published.store(revision, Ordering::Release);
        outcomes
    }

    fn tell_observers(&self, changes: &[(Arc<[Event]>, u64)]) {
        let observers = self.observers.read().clone();
        for (events, revision) in changes {
            for subscription in observers.iter().filter(|s| s.after < *revision) {
                (subscription.observer)(events, *revision);
            }
        }
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    pub(crate) fn observe(&self, observer: Observer) -> u64 {
        // The read lock keeps further revisions out. One that is applied but not yet published is skipped by
        // `after`.
        let state = self.state.read();
        self.observers.write().push(Subscription { after: state.revision, observer });
        state.revision
    }

    pub(crate) fn watch(self: &Arc<Self>, request: &WatchRequest) -> Result<WatchStream, StoreError> {
        if self.is_stopped() {
            return Err(StoreError::Stopped);
        }
        crate::state::watch::open(self, request)
    }

    /// As [`watch`](Self::watch), for a front that manages many watches itself.
    pub(crate) fn follow(
        self: &Arc<Self>,
        request: &WatchRequest,
        notifier: &Arc<Notifier>,
        id: i64,
    ) -> Result<Cursor, StoreError> {
        if self.is_stopped() {
            return Err(StoreError::Stopped);
        }
        crate::state::watch::follow(self, request, notifier, id)
    }

    pub(crate) fn lease(&self, id: LeaseId) -> Option<LeaseInfo> {
        let state = self.state.read();
        let lease = state.leases.get(&id)?;
        Some(LeaseInfo {
            id,
            granted_ttl: lease.ttl,
            remaining_ttl: lease.ttl,
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Ends all watches; reads still work.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.hub.wake_all();
    }
}

impl StateMachine for Core {
    fn applied(&self) -> (LogId, LogId, Membership) {
        let state = self.state.read();
        let applied = LogId { term: state.term, index: state.index };
        (applied, state.group.since, state.group.membership.clone())
    }

    fn apply(&self, records: &[Record]) -> Vec<Result<ApplyOutcome, StoreError>> {
        let _order = self.order.lock();
        self.apply_ordered(records)
    }

    fn snapshot(&self) -> Frozen {
        Frozen::of(&self.state.read())
    }

    /// Observers get the differences as one change. Watches on changed keys end, because the changes in
    /// between are not available here.
    fn install(&self, state: State) {
        let _order = self.order.lock();
        let change = {
            let mut own = self.state.write();
            (own.replace(state), own.revision)
        };
        let revision = change.1;
        if !change.0.is_empty() {
            let changes = [change];
            self.hub.publish(&changes);
            self.tell_observers(&changes);
        }
        self.published.store(revision, Ordering::Release);
    }
}
