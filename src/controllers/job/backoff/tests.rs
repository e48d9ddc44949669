//! How the pauses between failed pods grow.

use serde_json::json;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn ended(second: i64) -> Arc<Pod> {
    let pod = json!({"metadata": {"creationTimestamp": at(second).to_string()}});
    Arc::new(serde_json::from_value(pod).unwrap())
}

#[test]
fn waits_double_up_to_ten_minutes() {
    let waits: Vec<u64> = (0..10).map(|failures| left(failures, at(0), at(0)).as_secs()).collect();
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
    assert_eq!(left(40, at(0), at(599)).as_secs(), 1);
    assert_eq!(left(2, at(0), at(25)), Duration::ZERO);
}

#[test]
fn a_success_ends_what_was_before_it() {
    let failed = Backoff::default().after(&[], &[ended(1), ended(3)]);
    assert_eq!((failed.failures, failed.last), (2, Some(at(3))));
    assert_eq!(failed.after(&[], &[]), failed);
    assert_eq!(failed.after(&[ended(4)], &[]), Backoff::default());
    let mixed = failed.after(&[ended(4)], &[ended(2), ended(6)]);
    assert_eq!((mixed.failures, mixed.last), (1, Some(at(6))));
}
