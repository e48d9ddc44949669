//! Turns: how many requests are carried out at a time, and whose are next when there are more.
//!
//! Requests that read and requests that write have seats of their own. A request takes a seat, or several if
//! its body is large, and has it until its answer is read. Administrators (`system:masters`) never wait.
//! Requests without an end (watches, logs) take no seat; their number has a bound for each user.
//!
//! [`seats`] decides and knows nothing of time or tasks; [`levels`] says who belongs where.

mod levels;
mod seats;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::ApiError;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub(crate) use levels::{Names, Request};
use levels::{SHARES, classify};
use seats::{Arrival, Patience, Place, Seats};

use crate::limits::{LARGEST_BODY, Limits};

/// So many bytes of a body count as one seat more.
const SEAT_BYTES: u64 = 150 * 1024;

/// How long a request lasts, and what it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Reads,
    /// With the size of its body as far as it is announced.
    Writes {
        body: Option<u64>,
    },
    /// It lasts as long as its client wants.
    Endless,
}

/// The seats of a server.
pub(crate) struct Fairness {
    readers: Arc<Pool>,
    writers: Arc<Pool>,
    streams: Arc<Streams>,
    streams_per_user: usize,
    timeout: Duration,
    hasher: RandomState,
    /// Requests under way that end by themselves: those that read, those that write.
    under_way: [Arc<AtomicUsize>; 2],
}

/// Requests that read, or those that write.
struct Pool(Mutex<Seats<oneshot::Sender<()>>>);

/// Requests without an end, by user.
type Streams = Mutex<HashMap<u64, usize>>;

/// What a request has; dropping it lets the next one run.
pub(crate) struct Seat {
    held: Held,
    /// What else goes when the request is over.
    kept: Option<Box<dyn Send + Sync>>,
    counted: Option<Counted>,
}

impl Seat {
    fn of(held: Held) -> Self {
        Seat { held, kept: None, counted: None }
    }

    /// Keeps something for as long as the request lasts.
    pub(crate) fn keep(&mut self, kept: Box<dyn Send + Sync>) {
        self.kept = Some(kept);
    }
}

/// A request that counts among those under way until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn among(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Held {
    /// Somebody who never waits needs none.
    Nothing,
    Seats {
        pool: Arc<Pool>,
        place: Place,
        width: usize,
    },
    Stream {
        streams: Arc<Streams>,
        user: u64,
    },
}

/// Upstream's words for every kind of too much.
pub(crate) fn too_many() -> ApiError {
    ApiError::too_many_requests("Too many requests, please try again later.", 1)
}

impl Fairness {
    pub(crate) fn new(limits: &Limits) -> Self {
        let pool = |total| Arc::new(Pool(Mutex::new(Seats::new(total, &SHARES))));
        Fairness {
            readers: pool(limits.requests),
            writers: pool(limits.mutating_requests),
            streams: Arc::default(),
            streams_per_user: limits.streams_per_user,
            timeout: limits.timeouts.queued,
            hasher: RandomState::new(),
            under_way: Default::default(),
        }
    }

    /// Requests under way that read, and that write, of clients that end by themselves.
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        let [readers, writers] = &self.under_way;
        (readers.load(Ordering::Relaxed), writers.load(Ordering::Relaxed))
    }

    /// Waits for a request's turn; the 429 if that would take too long.
    pub(crate) async fn admit(&self, request: &Request<'_>, kind: Kind) -> Result<Seat, ApiError> {
        let mut seat = self.seat(request, kind).await?;
        let [readers, writers] = &self.under_way;
        seat.counted = match kind {
            Kind::Reads => Some(Counted::among(readers)),
            Kind::Writes { .. } => Some(Counted::among(writers)),
            Kind::Endless => None,
        };
        Ok(seat)
    }

    async fn seat(&self, request: &Request<'_>, kind: Kind) -> Result<Seat, ApiError> {
        let Some((_, flow)) = classify(request) else { return Ok(Seat::of(Held::Nothing)) };
        let (pool, wanted) = match kind {
            Kind::Endless => return self.stream(self.hasher.hash_one(&request.user.name)),
            Kind::Reads => (&self.readers, 1),
            Kind::Writes { body } => {
                let body = body.unwrap_or(LARGEST_BODY as u64);
                (&self.writers, 1 + usize::try_from(body / SEAT_BYTES).unwrap_or(usize::MAX - 1))
            }
        };
        let place = Place { level: flow.level, flow: self.hasher.hash_one(&flow) };
        let (width, arrival, receiver) = pool.arrive(place, wanted, Patience::Bounded);
        let taken = || Seat::of(Held::Seats { pool: pool.clone(), place, width });
        match (arrival, receiver) {
            (Arrival::Running, _) => Ok(taken()),
            (Arrival::Waiting(ticket), Some(receiver)) => {
                let waiting = Waiting { pool, place, width, ticket };
                match tokio::time::timeout(self.timeout, receiver).await {
                    Ok(Ok(())) => {
                        std::mem::forget(waiting);
                        Ok(taken())
                    }
                    _ => Err(too_many()),
                }
            }
            _ => Err(too_many()),
        }
    }

    /// A seat for a write of a component in this process, however long that takes: who calls bounds how many
    /// it has under way, and a component that was refused would only come again. Reads need none: what they
    /// are given is shared with the cache.
    pub(crate) async fn seat_in_process(&self, request: &Request<'_>, body: usize) -> Seat {
        let Some((_, flow)) = classify(request) else { return Seat::of(Held::Nothing) };
        let pool = &self.writers;
        let place = Place { level: flow.level, flow: self.hasher.hash_one(&flow) };
        let wanted = 1 + usize::try_from(body as u64 / SEAT_BYTES).unwrap_or(usize::MAX - 1);
        let (width, arrival, receiver) = pool.arrive(place, wanted, Patience::Endless);
        if let (Arrival::Waiting(ticket), Some(receiver)) = (arrival, receiver) {
            let waiting = Waiting { pool, place, width, ticket };
            // The sender is dropped unsent only with the queue itself.
            let _ = receiver.await;
            std::mem::forget(waiting);
        }
        Seat::of(Held::Seats { pool: pool.clone(), place, width })
    }

    fn stream(&self, user: u64) -> Result<Seat, ApiError> {
        let mut streams = self.streams.lock();
        let count = streams.entry(user).or_default();
        if *count >= self.streams_per_user {
            return Err(too_many());
        }
        *count += 1;
        Ok(Seat::of(Held::Stream { streams: self.streams.clone(), user }))
    }
}

impl Pool {
    /// How many seats it takes, and how it is told if it waits for them.
    fn arrive(
        &self,
        place: Place,
        wanted: usize,
        patience: Patience,
    ) -> (usize, Arrival, Option<oneshot::Receiver<()>>) {
        let mut receiver = None;
        let mut seats = self.0.lock();
        let width = seats.width(wanted);
        let arrival = seats.arrive(place, width, patience, || {
            let (sender, waiting) = oneshot::channel();
            receiver = Some(waiting);
            sender
        });
        (width, arrival, receiver)
    }

    fn finish(&self, place: Place, width: usize) {
        let mut seats = self.0.lock();
        seats.finish(place, width);
        start_all(&mut seats);
    }
}

fn start_all(seats: &mut Seats<oneshot::Sender<()>>) {
    while let Some(next) = seats.start() {
        // If the request has gone in the meantime, the seat is dropped unsent and so given back.
        let _ = next.send(());
    }
}

/// A request that waits. Dropped before its turn it leaves the queue; dropped after, it gives the seat back.
struct Waiting<'a> {
    pool: &'a Pool,
    place: Place,
    width: usize,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut seats = self.pool.0.lock();
        if !seats.leave(self.place, self.ticket) {
            seats.finish(self.place, self.width);
        }
        start_all(&mut seats);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        match &self.held {
            Held::Nothing => {}
            Held::Seats { pool, place, width } => pool.finish(*place, *width),
            Held::Stream { streams, user } => {
                let mut streams = streams.lock();
                if let Some(count) = streams.get_mut(user) {
                    *count -= 1;
                    if *count == 0 {
                        streams.remove(user);
                    }
                }
            }
        }
    }
}
