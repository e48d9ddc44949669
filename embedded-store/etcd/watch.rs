//! The Watch service: many watches on one stream.
//!
//! One state machine per stream, polled by the connection: what the client does not read is not made, so a client
//! that never reads holds nothing but its place in the history.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::AbortHandle;
use futures::stream::{SelectAll, abortable};
use futures::{Stream, StreamExt};
use prost::Message;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::{Request, Response, Status, Streaming};

use super::convert::{event, own, range_end, unsigned};
use super::{Front, pb};
use crate::MAX_REQUEST_BYTES;
use crate::types::{Event, Store, StoreError};
use crate::watch::{Chunk, Cursor, wakes};

/// Says that the store chooses the id; also the id of answers that concern no watch.
const NO_WATCH: i64 = -1;

/// The ids of watches that may have something to tell.
type Wakes = Pin<Box<dyn Stream<Item = i64> + Send>>;

pub(crate) struct Watch(pub(crate) Arc<Front>);

struct Open {
    cursor: Cursor,
    /// Ends its wakes.
    abort: AbortHandle,
    old_values: bool,
    puts: bool,
    deletes: bool,
    fragment: bool,
    progress: bool,
    /// Something was sent since the last tick of the progress timer.
    active: bool,
    /// It is among those to be looked at.
    ripe: bool,
}

struct Session {
    front: Arc<Front>,
    requests: Streaming<pb::WatchRequest>,
    watches: HashMap<i64, Open>,
    wakes: SelectAll<Wakes>,
    /// Watches to be looked at; a chunk of each in turn.
    ripe: VecDeque<i64>,
    next_id: i64,
    ready: VecDeque<pb::WatchResponse>,
    /// A revision that the client wants to be told of once everything up to it has been sent.
    progress: Option<u64>,
    ticks: Interval,
}

#[tonic::async_trait]
impl pb::watch_server::Watch for Watch {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let period = self.0.options.progress_interval;
        let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let session = Session {
            front: Arc::clone(&self.0),
            requests: request.into_inner(),
            watches: HashMap::new(),
            wakes: SelectAll::new(),
            ripe: VecDeque::new(),
            next_id: 0,
            ready: VecDeque::new(),
            progress: None,
            ticks,
        };
        let responses = futures::stream::unfold(Some(session), |session| async move {
            let mut session = session?;
            match session.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(session))),
                Ok(None) => None,
                Err(e) => Some((Err(e), None)),
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

impl Session {
    async fn next(&mut self) -> Result<Option<pb::WatchResponse>, Status> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Ok(Some(response));
            }
            if let Some(id) = self.ripe.pop_front() {
                self.look(id);
                continue;
            }
            if let Some(revision) = self.progress.take() {
                // Every watch has been looked at since it was asked for.
                self.ready.push_back(self.response(NO_WATCH, revision));
                continue;
            }
            tokio::select! {
                request = self.requests.message() => match request? {
                    Some(request) => self.handle(request),
                    None => return Ok(None),
                },
                Some(id) = self.wakes.next(), if !self.wakes.is_empty() => self.ripen(id),
                _ = self.ticks.tick() => self.tick(),
            }
        }
    }

    fn response(&self, id: i64, revision: u64) -> pb::WatchResponse {
        pb::WatchResponse { header: self.front.header(revision), watch_id: id, ..Default::default() }
    }

    fn ripen(&mut self, id: i64) {
        if let Some(watch) = self.watches.get_mut(&id)
            && !watch.ripe
        {
            watch.ripe = true;
            self.ripe.push_back(id);
        }
    }

    /// Lets all watches be looked at, woken or not; returns the revision that they are then complete up to.
    fn ripen_all(&mut self) -> u64 {
        let revision = self.front.store.revision();
        for (id, watch) in &mut self.watches {
            if !watch.ripe {
                watch.ripe = true;
                self.ripe.push_back(*id);
            }
        }
        revision
    }

    /// Takes what is there for a watch.
    fn look(&mut self, id: i64) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.ripe = false;
        match watch.cursor.take() {
            Ok(None) => {}
            Ok(Some(chunk)) => {
                watch.ripe = true;
                self.ripe.push_back(id);
                self.deliver(id, &chunk);
            }
            Err(e) => {
                if let Some(watch) = self.watches.remove(&id) {
                    watch.abort.abort();
                }
                self.ready.push_back(self.ended(id, &e));
            }
        }
    }

    fn handle(&mut self, request: pb::WatchRequest) {
        use pb::watch_request::RequestUnion;
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => {
                if let Some(watch) = self.watches.remove(&cancel.watch_id) {
                    watch.abort.abort();
                    let response = self.response(cancel.watch_id, self.front.store.revision());
                    self.ready.push_back(pb::WatchResponse { canceled: true, ..response });
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => self.progress = Some(self.ripen_all()),
            None => {}
        }
    }

    fn create(&mut self, create: pb::WatchCreateRequest) {
        use pb::watch_create_request::FilterType;
        let revision = self.front.store.revision();
        if create.watch_id < 0 || (create.watch_id > 0 && self.watches.contains_key(&create.watch_id)) {
            let refused = pb::WatchResponse {
                created: true,
                canceled: true,
                cancel_reason: "mvcc: duplicate watch ID provided on the WatchStream".to_string(),
                ..self.response(NO_WATCH, revision)
            };
            self.ready.push_back(refused);
            return;
        }
        let id = if create.watch_id > 0 { create.watch_id } else { self.free_id() };
        let key = if create.key.is_empty() { vec![0].into() } else { own(&create.key) };
        let request = crate::types::WatchRequest {
            key,
            range_end: range_end(&create.range_end),
            start_revision: unsigned(create.start_revision),
        };
        self.ready.push_back(pb::WatchResponse { created: true, ..self.response(id, revision) });
        let (cursor, wake) = match self.front.store.follow(&request) {
            Ok(watch) => watch,
            Err(e) => {
                self.ready.push_back(self.ended(id, &e));
                return;
            }
        };
        let (wakes, abort) = abortable(wakes(wake));
        self.wakes.push(Box::pin(wakes.map(move |()| id)));
        let filtered = |kind: FilterType| create.filters.contains(&(kind as i32));
        let watch = Open {
            cursor,
            abort,
            old_values: create.prev_kv,
            puts: !filtered(FilterType::Noput),
            deletes: !filtered(FilterType::Nodelete),
            fragment: create.fragment,
            progress: create.progress_notify,
            active: false,
            ripe: false,
        };
        self.watches.insert(id, watch);
    }

    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// The last message of a watch that cannot go on.
    fn ended(&self, id: i64, e: &StoreError) -> pb::WatchResponse {
        let (oldest, reason) = match e {
            // A watch that was cut off may go on from where it was, if that is still there: etcd has no other way to
            // say so than the oldest revision that is.
            StoreError::Compacted { oldest } => (*oldest, String::new()),
            StoreError::Lagged => (self.front.store.compacted_revision(), String::new()),
            other => (0, other.to_string()),
        };
        pb::WatchResponse {
            canceled: true,
            compact_revision: oldest.cast_signed(),
            cancel_reason: reason,
            ..self.response(id, self.front.store.revision())
        }
    }

    fn deliver(&mut self, id: i64, chunk: &Chunk) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let (old_values, fragment) = (watch.old_values, watch.fragment);
        let encoded = |event: &Event| Bytes::from(self::event(event, old_values).encode_to_vec());
        let all = chunk.batches.iter().flat_map(|batch| batch.events.iter());
        let events: Vec<Bytes> = if watch.puts && watch.deletes {
            chunk.encoded[usize::from(old_values)].get_or_init(|| all.map(encoded).collect()).clone()
        } else {
            all.filter(|e| if e.new.is_some() { watch.puts } else { watch.deletes }).map(encoded).collect()
        };
        if !events.is_empty() {
            watch.active = true;
            self.send(id, chunk.last, events, fragment);
        }
    }

    /// Puts events into one message, or into several for a client that can join them.
    fn send(&mut self, id: i64, revision: u64, mut events: Vec<Bytes>, fragment: bool) {
        if fragment {
            let mut size = 0;
            let mut count = 0;
            while let Some(event) = events.get(count) {
                size += event.len() + 8;
                if size < MAX_REQUEST_BYTES || count == 0 {
                    count += 1;
                    continue;
                }
                let rest = events.split_off(count);
                let events = std::mem::replace(&mut events, rest);
                let response = self.response(id, revision);
                self.ready.push_back(pb::WatchResponse { events, fragment: true, ..response });
                (size, count) = (0, 0);
            }
        }
        let response = self.response(id, revision);
        self.ready.push_back(pb::WatchResponse { events, ..response });
    }

    /// Tells quiet watches that asked for it how far they are.
    fn tick(&mut self) {
        let revision = self.ripen_all();
        // What is waiting is newer than the promise that nothing is.
        while let Some(id) = self.ripe.pop_front() {
            self.look(id);
            if !self.ready.is_empty() {
                return;
            }
        }
        let quiet = self.watches.iter_mut().filter_map(|(id, watch)| {
            let quiet = watch.progress && !watch.active;
            watch.active = false;
            quiet.then_some(*id)
        });
        let quiet: Vec<i64> = quiet.collect();
        for id in quiet {
            self.ready.push_back(self.response(id, revision));
        }
    }
}
