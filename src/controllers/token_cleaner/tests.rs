//! When a token has ended.

use k8s_openapi::ByteString;

use super::*;

#[test]
fn a_token_ends_when_it_says_and_one_that_says_nothing_sensible_has_ended() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let of = |expiration: Option<&str>| {
        let data = expiration.map(|text| [("expiration".to_string(), ByteString(text.into()))].into());
        left(&Secret { data, ..Secret::default() }, now)
    };
    assert_eq!(of(None), None);
    assert_eq!(of(Some("2026-01-01T00:01:00Z")), Some(Duration::from_secs(60)));
    assert_eq!(of(Some("2026-01-01T02:01:00+02:00")), Some(Duration::from_secs(60)));
    for over in ["2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", "", "tomorrow"] {
        assert_eq!(of(Some(over)), Some(Duration::ZERO), "{over}");
    }
}
