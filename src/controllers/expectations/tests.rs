//! Tests of expectations under tokio's paused clock.

use std::time::Duration;

use super::Expectations;
use crate::context::Key;

fn key(name: &str) -> Key {
    ("ns".to_string(), name.to_string())
}

#[tokio::test(start_paused = true)]
async fn creations_are_awaited_and_run_out() {
    let expectations = Expectations::default();
    assert!(expectations.satisfied(&key("rs")));
    expectations.expect_creations(&key("rs"), 2);
    expectations.creation_observed(&key("rs"));
    assert!(!expectations.satisfied(&key("rs")));
    expectations.creation_observed(&key("rs"));
    assert!(expectations.satisfied(&key("rs")));
    expectations.expect_creations(&key("rs"), 1);
    tokio::time::advance(Duration::from_secs(301)).await;
    assert!(expectations.satisfied(&key("rs")));
}

#[tokio::test(start_paused = true)]
async fn one_deletion_seen_twice_counts_once() {
    let expectations = Expectations::default();
    expectations.expect_deletions(&key("rs"), [key("a"), key("b")].into());
    expectations.deletion_observed(&key("rs"), &key("a"));
    expectations.deletion_observed(&key("rs"), &key("a"));
    assert!(!expectations.satisfied(&key("rs")));
    expectations.deletion_observed(&key("rs"), &key("b"));
    assert!(expectations.satisfied(&key("rs")));
}
