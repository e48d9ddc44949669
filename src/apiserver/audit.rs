//! Audit: what was asked of the API server, by whom, and what came of it, as upstream's policy wants it told.
//!
//! A request that the policy is about has a [`Trail`], which gathers what becomes of it; requests that it is
//! not about have none, and cost a look at their path; without a policy they cost nothing. Events go to the
//! back-ends through bounded queues, each with a thread of its own (`sink`), so that no request waits for a
//! disk or a network. What does not fit is dropped and counted.
//!
//! Components in the process leave the same trail as over the network: they are users like others, and what a
//! controller deletes is asked about as often as what people do.
//!
//! Absent: objects as they are after defaulting (what the client sent is told); the name of the binding that
//! allows a request; the end of a tunnel (it is told of as complete when the protocol has been switched).

mod content;
mod event;
mod log;
mod policy;
mod sink;
mod trail;
mod webhook;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::{ApiError, Identity};

pub use log::{LogFormat, LogOptions};
pub use policy::PolicyError;
pub use sink::{Mode, SinkOptions, Throttle, Truncation};
pub use webhook::{Post, WebhookOptions};

pub(crate) use content::{Content, Held};
pub(crate) use policy::Attributes;
pub(crate) use trail::{Origin, Trail};

use content::Room;
use event::Event;
use policy::{Level, Policy};
use sink::{Errors, Sink};

/// Whether, what and where to.
pub struct Audit {
    policy: Policy,
    sinks: Vec<Sink>,
    counts: Counts,
    room: Room,
}

#[derive(Default)]
struct Counts {
    events: AtomicU64,
    /// Requests by level, None to RequestResponse.
    levels: [AtomicU64; 4],
    rejected: AtomicU64,
}

/// Why there is no audit though there should be.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("opening the audit log")]
    Log(#[source] io::Error),
    #[error("starting the audit webhook")]
    Webhook(#[source] io::Error),
}

impl Audit {
    /// By a policy, without a place to write to yet.
    pub fn new(policy: &[u8]) -> Result<Audit, AuditError> {
        let policy = Policy::parse(policy)?;
        Ok(Audit { policy, sinks: Vec::new(), counts: Counts::default(), room: Room::default() })
    }

    /// Writes to a log as well.
    pub fn log_to(mut self, log: LogOptions, options: SinkOptions) -> Result<Audit, AuditError> {
        self.sinks.push(Sink::log(log, options).map_err(AuditError::Log)?);
        Ok(self)
    }

    /// Sends to a server as well. Within a runtime.
    pub fn send_to(mut self, webhook: WebhookOptions, options: SinkOptions) -> Result<Audit, AuditError> {
        self.sinks.push(Sink::webhook(webhook, options).map_err(AuditError::Webhook)?);
        Ok(self)
    }

    /// The trail of a request; none if nothing is to be told of it, and then nobody asks where it is from. An
    /// error if it may not go on because a back-end that must have every event does not take this one.
    pub(crate) fn begin(
        self: &Arc<Self>,
        user: &Arc<Identity>,
        what: Attributes,
        origin: impl FnOnce() -> Origin,
    ) -> Result<Option<Arc<Trail>>, ApiError> {
        let Some(trail) = self.trail(user, what, origin) else { return Ok(None) };
        if trail.received() {
            return Ok(Some(Arc::new(trail)));
        }
        trail.abandon();
        Err(self.rejected())
    }

    /// Tells of a request whose credentials are not accepted, and why.
    pub(crate) fn unauthenticated(
        self: &Arc<Self>,
        what: Attributes,
        origin: impl FnOnce() -> Origin,
        why: &str,
    ) {
        if let Some(trail) = self.trail(&Arc::default(), what, origin) {
            trail.unauthenticated(why);
        }
    }

    fn trail(
        self: &Arc<Self>,
        user: &Arc<Identity>,
        what: Attributes,
        origin: impl FnOnce() -> Origin,
    ) -> Option<Trail> {
        let verdict = self.policy.judge(user, &what);
        self.counts.levels[verdict.level as usize].fetch_add(1, Ordering::Relaxed);
        (verdict.level != Level::None).then(|| Trail::new(self.clone(), user, what, verdict, origin()))
    }

    fn rejected(&self) -> ApiError {
        self.counts.rejected.fetch_add(1, Ordering::Relaxed);
        ApiError::internal("failed to store audit event")
    }

    /// Hands an event to the back-ends; false if one that must have it does not take it.
    fn tell(&self, event: Event) -> bool {
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        let Some((last, others)) = self.sinks.split_last() else { return true };
        let mut taken = true;
        for sink in others {
            taken &= sink.take(event.clone());
        }
        taken & last.take(event)
    }

    /// Waits until everything that was told so far is written, or the time is over.
    pub fn flush(&self, limit: Duration) {
        self.sinks.iter().for_each(|sink| sink.flush(limit));
    }

    pub(crate) fn render_metrics(&self, text: &mut String) {
        use std::fmt::Write;
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut one = |name: &str, help: &str, lines: &[(String, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for (labels, count) in lines {
                let _ = writeln!(text, "{name}{labels} {count}");
            }
        };
        let help = "Counter of audit events generated and sent to the audit backend.";
        one("apiserver_audit_event_total", help, &[(String::new(), number(&self.counts.events))]);
        let lines = Level::ALL.iter().zip(&self.counts.levels);
        let lines: Vec<_> =
            lines.map(|((_, level), count)| (format!("{{level=\"{level}\"}}"), number(count))).collect();
        one(
            "apiserver_audit_level_total",
            "Counter of policy levels for audit events (1 per request).",
            &lines,
        );
        let help = "Counter of apiserver requests rejected due to an error in audit logging backend.";
        let rejected = number(&self.counts.rejected);
        one("apiserver_audit_requests_rejected_total", help, &[(String::new(), rejected)]);
        let all = |of: fn(&Errors) -> &AtomicU64| -> u64 {
            self.sinks.iter().map(|sink| number(of(sink.errors()))).sum()
        };
        let mut lines = vec![
            ("{plugin=\"buffered\"}".to_string(), all(|errors| &errors.buffered)),
            ("{plugin=\"truncate\"}".to_string(), all(|errors| &errors.truncate)),
        ];
        for sink in &self.sinks {
            lines.push((format!("{{plugin=\"{}\"}}", sink.name()), number(&sink.errors().back_end)));
        }
        let help = "Counter of audit events that failed to be audited properly. Plugin identifies the plugin \
                    affected by the error.";
        one("apiserver_audit_error_total", help, &lines);
    }
}

#[cfg(test)]
mod tests;
