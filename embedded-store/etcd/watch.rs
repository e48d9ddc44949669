//! The Watch service: many watches on one stream.
//!
//! One state machine per stream, polled by the connection: what the client does not read is not made, so a
//! client that never reads holds nothing but its place in the history.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use prost::Message;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::{Request, Response, Status, Streaming};

use super::convert::{event, own, range_end, unsigned};
use super::front::Front;
use super::pb;
use crate::check::MAX_REQUEST_BYTES;
use crate::state::watch::{Chunk, Cursor, Notifier};
use crate::types::{Event, Store, StoreError};

/// Says that the store chooses the id; also the id of answers that concern no watch.
const NO_WATCH: i64 = -1;
/// Rounds of events after which a client's requests are looked at although there are more events.
const MOST_ROUNDS: u8 = 16;

pub(crate) struct Watch(pub(crate) Arc<Front>);

struct Open {
    cursor: Cursor,
    old_values: bool,
    puts: bool,
    deletes: bool,
    fragment: bool,
    progress: bool,
    /// Something was sent since the last tick of the progress timer.
    active: bool,
}

struct Session {
    front: Arc<Front>,
    requests: Streaming<pb::WatchRequest>,
    watches: HashMap<i64, Open>,
    /// Rings for watches that may have something new.
    notifier: Arc<Notifier>,
    /// Watches to be looked at; a chunk of each in turn.
    ripe: VecDeque<i64>,
    next_id: i64,
    ready: VecDeque<pb::WatchResponse>,
    /// A revision that the client wants to be told of once everything up to it has been sent.
    progress: Option<u64>,
    ticks: Interval,
    turn: u8,
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
            notifier: Arc::default(),
            ripe: VecDeque::new(),
            next_id: 0,
            ready: VecDeque::new(),
            progress: None,
            ticks,
            turn: 0,
        };
        Ok(Response::new(Box::pin(session)))
    }
}

impl Stream for Session {
    type Item = Result<pb::WatchResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(response) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(response)));
            }
            if let Some(id) = this.ripe.pop_front() {
                this.look(id);
                continue;
            }
            if let Some(revision) = this.progress.take() {
                // Every watch has been looked at since it was asked for.
                this.ready.push_back(this.response(NO_WATCH, revision));
                continue;
            }
            this.notifier.listen(cx, &mut this.ripe);
            this.turn = this.turn.wrapping_add(1);
            // A client may cancel what keeps its stream busy.
            if !this.ripe.is_empty() && !this.turn.is_multiple_of(MOST_ROUNDS) {
                continue;
            }
            match this.requests.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(request))) => {
                    this.handle(request);
                    continue;
                }
                // The client has gone, or will ask for nothing more: etcd ends its watches, too.
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Some(Err(e))),
                Poll::Pending if !this.ripe.is_empty() => continue,
                Poll::Pending => {}
            }
            ready!(this.ticks.poll_tick(cx));
            this.tick();
        }
    }
}

impl Session {
    fn response(&self, id: i64, revision: u64) -> pb::WatchResponse {
        pb::WatchResponse { header: self.front.header(revision), watch_id: id, ..Default::default() }
    }

    /// Lets all watches be looked at, woken or not; returns the revision that they are then complete up to.
    fn ripen_all(&mut self) -> u64 {
        let revision = self.front.store.revision();
        self.ripe.extend(self.watches.keys());
        revision
    }

    /// Takes what is there for a watch.
    fn look(&mut self, id: i64) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        match watch.cursor.take() {
            Ok(None) => {}
            Ok(Some(chunk)) => {
                self.ripe.push_back(id);
                self.deliver(id, &chunk);
            }
            Err(e) => {
                self.watches.remove(&id);
                self.ready.push_back(self.ended(id, &e));
            }
        }
    }

    fn handle(&mut self, request: pb::WatchRequest) {
        use pb::watch_request::RequestUnion;
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.progress = Some(self.ripen_all()),
            None => {}
        }
    }

    fn cancel(&mut self, id: i64) {
        if self.watches.remove(&id).is_some() {
            let response = self.response(id, self.front.store.revision());
            self.ready.push_back(pb::WatchResponse { canceled: true, ..response });
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
        let cursor = match self.front.store.follow(&request, &self.notifier, id) {
            Ok(cursor) => cursor,
            Err(e) => {
                self.ready.push_back(self.ended(id, &e));
                return;
            }
        };
        let filtered = |kind: FilterType| create.filters.contains(&(kind as i32));
        let watch = Open {
            cursor,
            old_values: create.prev_kv,
            puts: !filtered(FilterType::Noput),
            deletes: !filtered(FilterType::Nodelete),
            fragment: create.fragment,
            progress: create.progress_notify,
            active: false,
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
            // A watch that was cut off may go on from where it was, if that is still there: etcd has no other
            // way to say so than the oldest revision that is.
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
