//! The sequence of delays.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

#[test]
fn delays_double_to_five_minutes_and_are_forgotten() {
    let mut backoff = Backoff::default();
    assert_eq!(backoff.remaining("k", at(0), at(0)), None, "the first restart is immediate");
    let mut now = 0;
    for want in [10, 20, 40, 80, 160, 300, 300] {
        backoff.next("k", at(now));
        assert_eq!(backoff.delay("k").as_secs(), want);
        assert_eq!(backoff.remaining("k", at(now + 1), at(now + 2)).unwrap().as_secs(), want - 1);
        assert_eq!(backoff.remaining("k", at(now + 1), at(now + 1 + want)), None);
        now += want + 1;
    }
    assert_eq!(backoff.remaining("k", at(now + 700), at(now + 700)), None);
    backoff.next("k", at(now + 700));
    assert_eq!(backoff.delay("k").as_secs(), 10);
}

#[test]
fn durations_print_as_go_prints_them() {
    for (seconds, want) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")] {
        assert_eq!(go_duration(SignedDuration::from_secs(seconds)), want);
    }
}
