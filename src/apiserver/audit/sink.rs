//! A back-end behind its queue.
//!
//! The queue is bounded and its reader is a thread, so who tells of an event waits for nothing: what does not
//! fit is dropped and counted. Events are put into words by that thread, too. In the modes `blocking` and
//! `blocking-strict` of the log the teller writes by himself, as upstream has them: into the page cache, for
//! the log is not synced.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::event::Event;
use super::log::{LogFile, LogFormat, LogOptions};
use super::policy::Level;
use super::webhook::{Sender, WebhookOptions};

/// How events reach a back-end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Through a queue.
    #[default]
    Batch,
    /// At once, by who tells of them.
    Blocking,
    /// The same; a request that cannot be told of is refused.
    BlockingStrict,
}

/// What is too large for a back-end, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Truncation {
    pub event: usize,
    pub batch: usize,
}

/// How many batches a second are carried.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    pub rate: f32,
    pub burst: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct SinkOptions {
    pub mode: Mode,
    /// Events that wait.
    pub buffer: usize,
    /// Events that are carried at once.
    pub batch: usize,
    /// How long a batch is gathered that is not full.
    pub wait: Duration,
    pub throttle: Option<Throttle>,
    pub truncation: Option<Truncation>,
}

impl Default for SinkOptions {
    fn default() -> Self {
        SinkOptions {
            mode: Mode::Batch,
            buffer: 10_000,
            batch: 400,
            wait: Duration::ZERO,
            throttle: None,
            truncation: None,
        }
    }
}

/// Events that were lost, by what has lost them.
#[derive(Debug, Default)]
pub(super) struct Errors {
    /// The queue was full.
    pub(super) buffered: AtomicU64,
    /// They were too large.
    pub(super) truncate: AtomicU64,
    /// The back-end has failed.
    pub(super) back_end: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64, events: usize) {
    counter.fetch_add(events as u64, Ordering::Relaxed);
}

enum Job {
    Event(Box<Event>),
    /// Answered once everything before it is carried.
    Flush(SyncSender<()>),
}

enum Way {
    Queue(SyncSender<Job>),
    Log { log: Mutex<LogFile>, strict: bool },
}

pub(super) struct Sink {
    name: &'static str,
    way: Way,
    words: Words,
}

/// Puts events into words.
#[derive(Clone)]
struct Words {
    format: LogFormat,
    truncation: Option<Truncation>,
    errors: Arc<Errors>,
}

/// What carries batches, on the thread of the queue.
trait Carrier {
    fn carry(&mut self, batch: Vec<Vec<u8>>);

    /// Waits until everything is carried.
    fn flush(&mut self) {}
}

struct LogCarrier {
    log: LogFile,
    errors: Arc<Errors>,
}

impl Carrier for LogCarrier {
    fn carry(&mut self, batch: Vec<Vec<u8>>) {
        if let Err(error) = self.log.write(&batch) {
            count(&self.errors.back_end, batch.len());
            tracing::error!(%error, events = batch.len(), "the audit log cannot be written");
        }
    }
}

impl Carrier for Sender {
    fn carry(&mut self, batch: Vec<Vec<u8>>) {
        self.send(&batch);
    }

    fn flush(&mut self) {
        Sender::flush(self);
    }
}

impl Sink {
    pub(super) fn log(log: LogOptions, options: SinkOptions) -> io::Result<Sink> {
        let errors = Arc::new(Errors::default());
        let words = Words { format: log.format, truncation: options.truncation, errors: errors.clone() };
        let log = LogFile::new(log)?;
        let way = match options.mode {
            Mode::Batch => queue("audit-log", options, words.clone(), LogCarrier { log, errors })?,
            mode => Way::Log { log: Mutex::new(log), strict: mode == Mode::BlockingStrict },
        };
        Ok(Sink { name: "log", way, words })
    }

    /// Within a runtime.
    pub(super) fn webhook(webhook: WebhookOptions, options: SinkOptions) -> io::Result<Sink> {
        let errors = Arc::new(Errors::default());
        let sender = Sender::new(webhook, errors.clone());
        let words = Words { format: LogFormat::Json, truncation: options.truncation, errors };
        let way = queue("audit-webhook", options, words.clone(), sender)?;
        Ok(Sink { name: "webhook", way, words })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn errors(&self) -> &Errors {
        &self.words.errors
    }

    /// Takes an event. False if it is lost and the request must not go on for that.
    pub(super) fn take(&self, event: Event) -> bool {
        match &self.way {
            Way::Queue(jobs) => {
                if jobs.try_send(Job::Event(Box::new(event))).is_err() {
                    count(&self.words.errors.buffered, 1);
                }
                true
            }
            Way::Log { log, strict } => {
                let Some(line) = self.words.of(event) else { return true };
                let written = log.lock().write(&[line]);
                if let Err(error) = written {
                    count(&self.words.errors.back_end, 1);
                    tracing::error!(%error, "the audit log cannot be written");
                    return !strict;
                }
                true
            }
        }
    }

    /// Waits until everything that was told so far is carried, or the time is over.
    pub(super) fn flush(&self, limit: Duration) {
        if let Way::Queue(jobs) = &self.way {
            let until = Instant::now() + limit;
            let (done, wait) = sync_channel(1);
            let mut job = Some(Job::Flush(done));
            while let Some(next) = job.take() {
                match jobs.try_send(next) {
                    Ok(()) => {}
                    Err(std::sync::mpsc::TrySendError::Full(back)) if Instant::now() < until => {
                        // The queue is emptied by a thread that tells nobody of it.
                        std::thread::park_timeout(Duration::from_millis(5));
                        job = Some(back);
                    }
                    Err(_) => return,
                }
            }
            let _ = wait.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

impl Words {
    /// An event as it is written. One that is too large loses its objects; if that is not enough, it is lost.
    fn of(&self, mut event: Event) -> Option<Vec<u8>> {
        let mut json = event.json().ok();
        if let Some(most) = self.truncation.map(|truncation| truncation.event) {
            let fits = |json: &Option<Vec<u8>>| json.as_ref().is_some_and(|json| json.len() <= most);
            if !fits(&json) && event.level() >= Level::Request {
                event.truncate();
                json = event.json().ok();
            }
            json = json.filter(|json| json.len() <= most);
        }
        if json.is_none() {
            count(&self.errors.truncate, 1);
            tracing::error!("an audit event is too large even without its objects, and lost");
            return None;
        }
        match self.format {
            LogFormat::Json => json,
            LogFormat::Legacy => Some(event.legacy().into_bytes()),
        }
    }
}

/// A queue with the thread that empties it, which ends with the last sender.
fn queue(
    name: &str,
    options: SinkOptions,
    words: Words,
    carrier: impl Carrier + Send + 'static,
) -> io::Result<Way> {
    let (jobs, todo) = sync_channel(options.buffer.max(1));
    let reader = Reader { todo, options, words, carrier, allowance: Allowance::new(options.throttle) };
    std::thread::Builder::new().name(name.to_string()).spawn(move || reader.run())?;
    Ok(Way::Queue(jobs))
}

struct Reader<C> {
    todo: Receiver<Job>,
    options: SinkOptions,
    words: Words,
    carrier: C,
    allowance: Allowance,
}

impl<C: Carrier> Reader<C> {
    fn run(mut self) {
        while let Ok(first) = self.todo.recv() {
            // A fault in one event does not end the log.
            let work = AssertUnwindSafe(|| self.batch(first));
            if std::panic::catch_unwind(work).is_err() {
                count(&self.words.errors.back_end, 1);
                tracing::error!("writing audit events has panicked");
            }
        }
    }

    fn batch(&mut self, first: Job) {
        let until = Instant::now() + self.options.wait;
        let (mut batch, mut bytes, mut seen) = (Vec::new(), 0, 0);
        let (mut next, mut flushed) = (Some(first), None);
        while let Some(job) = next.take() {
            match job {
                Job::Event(event) => {
                    seen += 1;
                    if let Some(line) = self.words.of(*event) {
                        let most = self.options.truncation.map(|truncation| truncation.batch);
                        if most.is_some_and(|most| bytes + line.len() > most) {
                            self.carry(std::mem::take(&mut batch));
                            bytes = 0;
                        }
                        bytes += line.len();
                        batch.push(line);
                    }
                }
                Job::Flush(done) => {
                    flushed = Some(done);
                    break;
                }
            }
            if seen >= self.options.batch.max(1) {
                break;
            }
            next = self.todo.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        }
        self.carry(batch);
        if let Some(done) = flushed {
            self.carrier.flush();
            let _ = done.send(());
        }
    }

    fn carry(&mut self, batch: Vec<Vec<u8>>) {
        if !batch.is_empty() {
            self.allowance.wait();
            self.carrier.carry(batch);
        }
    }
}

/// However low the rate is.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A bucket of tokens, one for each batch.
struct Allowance {
    throttle: Option<Throttle>,
    tokens: f64,
    since: Instant,
}

impl Allowance {
    fn new(throttle: Option<Throttle>) -> Allowance {
        let tokens = throttle.map_or(0.0, |throttle| f64::from(throttle.burst));
        Allowance { throttle, tokens, since: Instant::now() }
    }

    /// Waits for a token: events wait in the queue meanwhile.
    fn wait(&mut self) {
        let Some(throttle) = self.throttle else { return };
        let rate = f64::from(throttle.rate);
        let now = Instant::now();
        let grown = self.tokens + now.duration_since(self.since).as_secs_f64() * rate;
        (self.tokens, self.since) = (grown.min(f64::from(throttle.burst)), now);
        if self.tokens < 1.0 {
            let pause = Duration::try_from_secs_f64((1.0 - self.tokens) / rate).unwrap_or(LONGEST_PAUSE);
            let until = now + pause.min(LONGEST_PAUSE);
            // A thread may be woken before its time.
            while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            {
                std::thread::park_timeout(left);
            }
            (self.tokens, self.since) = (1.0, Instant::now());
        }
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests;
