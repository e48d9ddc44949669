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
use std::time::Duration;

use api::ApiError;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub(crate) use levels::Request;
use levels::{SHARES, classify};
use seats::{Arrival, Place, Seats};

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
}

/// Requests that read, or those that write.
struct Pool(Mutex<Seats<oneshot::Sender<()>>>);

/// Requests without an end, by user.
type Streams = Mutex<HashMap<u64, usize>>;

/// What a request has; dropping it lets the next one run.
pub(crate) struct Seat(Held);

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
        }
    }

    /// Waits for a request's turn; the 429 if that would take too long.
    pub(crate) async fn admit(&self, request: &Request<'_>, kind: Kind) -> Result<Seat, ApiError> {
        let Some((_, flow)) = classify(request) else { return Ok(Seat(Held::Nothing)) };
        let (pool, wanted) = match kind {
            Kind::Endless => return self.stream(self.hasher.hash_one(&request.user.name)),
            Kind::Reads => (&self.readers, 1),
            Kind::Writes { body } => {
                let body = body.unwrap_or(LARGEST_BODY as u64);
                (&self.writers, 1 + usize::try_from(body / SEAT_BYTES).unwrap_or(usize::MAX - 1))
            }
        };
        let place = Place { level: flow.level, flow: self.hasher.hash_one(&flow) };
        let mut receiver = None;
        let (width, arrival) = {
            let mut seats = pool.0.lock();
            let width = seats.width(wanted);
            let arrival = seats.arrive(place, width, || {
                let (sender, waiting) = oneshot::channel();
                receiver = Some(waiting);
                sender
            });
            (width, arrival)
        };
        let taken = || Seat(Held::Seats { pool: pool.clone(), place, width });
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

    fn stream(&self, user: u64) -> Result<Seat, ApiError> {
        let mut streams = self.streams.lock();
        let count = streams.entry(user).or_default();
        if *count >= self.streams_per_user {
            return Err(too_many());
        }
        *count += 1;
        Ok(Seat(Held::Stream { streams: self.streams.clone(), user }))
    }
}

impl Pool {
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
        match &self.0 {
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
