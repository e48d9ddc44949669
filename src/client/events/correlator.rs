//! Decides what becomes of an event: written, counted onto an earlier one, combined with similar ones, or
//! dropped.
//!
//! The rules and numbers are client-go's: equal events raise `count`; once ten events that differ only in
//! their message have come within ten minutes, the further ones share one event
//! `(combined from similar events): …`; about one object and source at most 25 events at once and one per
//! five minutes after that are let through. Memory is bounded: each table keeps its 4,096 most recently used
//! entries. Pure: the caller passes the time.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;

const ENTRIES: usize = 4096;
const SIMILAR: usize = 10;
const SIMILAR_SECONDS: f64 = 600.0;
const SPAM_BURST: f64 = 25.0;
const SPAM_REFILL_SECONDS: f64 = 300.0;

/// What to do with an event.
#[derive(Debug, PartialEq)]
pub(super) enum EventStep {
    /// Write it as a new object.
    Create(Box<Event>),
    /// It has happened before: raise the count of the object of this name.
    Repeat(Box<Event>),
    /// Too many about this object.
    Drop,
}

#[derive(Default)]
pub(super) struct Correlator {
    similar: Recent<String, Similar>,
    seen: Recent<String, Seen>,
    spam: Recent<String, Bucket>,
}

/// The different messages of one kind of event.
struct Similar {
    messages: HashSet<String>,
    last: Timestamp,
}

/// What was written last for a key.
struct Seen {
    name: String,
    first: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    count: i32,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Correlator {
    pub(super) fn correlate(&mut self, event: Event, now: Timestamp) -> EventStep {
        let (mut event, key) = self.aggregate(event, now);
        let repeated = self.count(&mut event, key);
        if !self.admit(&event, now) {
            return EventStep::Drop;
        }
        if repeated { EventStep::Repeat(Box::new(event)) } else { EventStep::Create(Box::new(event)) }
    }

    /// The event, with its message combined if there are many like it, and the key under which repeats are
    /// counted.
    fn aggregate(&mut self, mut event: Event, now: Timestamp) -> (Event, String) {
        let group = group_key(&event);
        let message = event.message.clone().unwrap_or_default();
        let similar = self.similar.entry(group.clone(), || Similar { messages: HashSet::new(), last: now });
        if seconds(similar.last, now) > SIMILAR_SECONDS {
            similar.messages.clear();
        }
        similar.last = now;
        if !similar.messages.contains(&message) && similar.messages.len() + 1 >= SIMILAR {
            event.message = Some(format!("(combined from similar events): {message}"));
            return (event, group);
        }
        similar.messages.insert(message.clone());
        let key = format!(
            "{group}\u{0}{}\u{0}{message}",
            event.involved_object.field_path.as_deref().unwrap_or("")
        );
        (event, key)
    }

    /// Raises the count if the event has been seen; tells whether it has.
    fn count(&mut self, event: &mut Event, key: String) -> bool {
        let seen = self.seen.entry(key, || Seen {
            name: event.metadata.name.clone().unwrap_or_default(),
            first: event.first_timestamp.clone(),
            count: 0,
        });
        seen.count = seen.count.saturating_add(1);
        event.metadata.name = Some(seen.name.clone());
        event.first_timestamp = seen.first.clone();
        event.count = Some(seen.count);
        seen.count > 1
    }

    fn admit(&mut self, event: &Event, now: Timestamp) -> bool {
        let bucket = self.spam.entry(object_key(event), || Bucket { tokens: SPAM_BURST, at: now });
        let refill = seconds(bucket.at, now).max(0.0) / SPAM_REFILL_SECONDS;
        bucket.tokens = (bucket.tokens + refill).min(SPAM_BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn text(part: &Option<String>) -> &str {
    part.as_deref().unwrap_or("")
}

/// Source and object.
fn object_key(event: &Event) -> String {
    let object = &event.involved_object;
    let source = event.source.as_ref();
    [
        source.map_or("", |source| text(&source.component)),
        source.map_or("", |source| text(&source.host)),
        text(&object.kind),
        text(&object.namespace),
        text(&object.name),
        text(&object.uid),
        text(&object.api_version),
    ]
    .join("\u{0}")
}

/// Source, object, type and reason: everything but the message.
fn group_key(event: &Event) -> String {
    format!("{}\u{0}{}\u{0}{}", object_key(event), text(&event.type_), text(&event.reason))
}

/// A map that forgets what was not used for longest. Forgetting is done in halves, so that it costs little
/// per use.
struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    clock: u64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent { entries: HashMap::new(), clock: 0 }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.clock += 1;
        if self.entries.len() >= ENTRIES && !self.entries.contains_key(&key) {
            let mut ages: Vec<u64> = self.entries.values().map(|(used, _)| *used).collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            self.entries.retain(|_, (used, _)| *used >= median);
        }
        let clock = self.clock;
        let (used, value) = self.entries.entry(key).or_insert_with(|| (clock, make()));
        *used = clock;
        value
    }
}

#[cfg(test)]
mod tests;
