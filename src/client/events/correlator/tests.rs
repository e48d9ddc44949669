//! Tests of event correlation, against client-go's numbers.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Correlator, ENTRIES, EventStep};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000 + seconds)
}

fn event(object: &str, name: &str, message: &str, now: Timestamp) -> Event {
    Event {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some(name.to_string()),
            ..Default::default()
        },
        involved_object: ObjectReference { name: Some(object.to_string()), ..ObjectReference::default() },
        source: Some(EventSource { component: Some("test".to_string()), host: None }),
        reason: Some("Reason".to_string()),
        type_: Some("Normal".to_string()),
        message: Some(message.to_string()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        ..Event::default()
    }
}

#[test]
fn a_repeat_is_counted_on_the_first_event() {
    let mut correlator = Correlator::default();
    let first = correlator.correlate(event("pod", "pod.1", "hello", at(0)), at(0));
    assert!(matches!(first, EventStep::Create(_)));
    let EventStep::Repeat(second) = correlator.correlate(event("pod", "pod.2", "hello", at(5)), at(5)) else {
        panic!("a repeat was expected")
    };
    assert_eq!(second.metadata.name.as_deref(), Some("pod.1"));
    assert_eq!(second.count, Some(2));
    assert_eq!(second.first_timestamp, Some(Time(at(0))));
    assert_eq!(second.last_timestamp, Some(Time(at(5))));
    let other = correlator.correlate(event("other", "other.1", "hello", at(6)), at(6));
    assert!(matches!(other, EventStep::Create(_)), "another object");
}

#[test]
fn the_tenth_different_message_is_combined() {
    let mut correlator = Correlator::default();
    for n in 0..9 {
        let step = correlator.correlate(event("pod", &format!("pod.{n}"), &format!("m{n}"), at(n)), at(n));
        let EventStep::Create(event) = step else { panic!("message {n} is new") };
        assert_eq!(event.message, Some(format!("m{n}")));
    }
    let EventStep::Create(combined) = correlator.correlate(event("pod", "pod.9", "m9", at(9)), at(9)) else {
        panic!("the first combined event is an object of its own")
    };
    assert_eq!(combined.message.as_deref(), Some("(combined from similar events): m9"));
    let EventStep::Repeat(combined) = correlator.correlate(event("pod", "pod.10", "m10", at(10)), at(10))
    else {
        panic!("further ones are counted on it")
    };
    assert_eq!((combined.metadata.name.as_deref(), combined.count), (Some("pod.9"), Some(2)));
    let later = at(10 + 601);
    let EventStep::Create(apart) = correlator.correlate(event("pod", "pod.11", "m11", later), later) else {
        panic!("ten quiet minutes end the combining")
    };
    assert_eq!(apart.message.as_deref(), Some("m11"));
}

#[test]
fn a_flood_is_cut_at_25_and_let_through_again_after_five_minutes() {
    let mut correlator = Correlator::default();
    let passed = (0..100)
        .filter(|n| {
            correlator.correlate(event("pod", &format!("pod.{n}"), "same", at(0)), at(0)) != EventStep::Drop
        })
        .count();
    assert_eq!(passed, 25);
    assert_eq!(correlator.correlate(event("pod", "x", "same", at(299)), at(299)), EventStep::Drop);
    let EventStep::Repeat(event) = correlator.correlate(event("pod", "x", "same", at(301)), at(301)) else {
        panic!("one token has come back")
    };
    assert_eq!(event.count, Some(102), "dropped ones are counted, too");
}

#[test]
fn memory_is_bounded() {
    let mut correlator = Correlator::default();
    for n in 0..3 * ENTRIES {
        correlator.correlate(event(&format!("pod-{n}"), "x", "m", at(0)), at(0));
    }
    assert!(correlator.seen.entries.len() <= ENTRIES);
    let last = format!("pod-{}", 3 * ENTRIES - 1);
    assert!(matches!(correlator.correlate(event(&last, "x", "m", at(1)), at(1)), EventStep::Repeat(_)));
}
