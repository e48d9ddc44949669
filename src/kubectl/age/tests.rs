//! Tests of durations: the examples of apimachinery's and Go's own behaviour.

use std::time::Duration;

use super::{human, parse, parse_signed, since};

#[test]
fn durations_are_shortened_as_kubectl_does() {
    for (seconds, expected) in [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (130, "2m10s"),
        (599, "9m59s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11100, "3h5m"),
        (28800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (691_200, "8d"),
        (63_072_000, "2y"),
        (64_072_000, "2y11d"),
        (315_360_000, "10y"),
    ] {
        assert_eq!(human(Duration::from_secs(seconds)), expected, "{seconds}");
    }
    let now = "2026-01-01T00:01:00Z".parse().unwrap();
    assert_eq!(since(Some("2026-01-01T00:00:00Z"), now), "60s");
    assert_eq!(since(None, now), "<unknown>");
}

#[test]
fn durations_are_read_as_go_does() {
    assert_eq!(parse("1h2m3.5s").unwrap(), Duration::from_millis(3_723_500));
    assert_eq!(parse("0").unwrap(), Duration::ZERO);
    assert_eq!(parse_signed("-1s").unwrap(), (true, Duration::from_secs(1)));
    for wrong in ["", "5", "s", "1x", "1h-"] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
    let unknown = parse("5x").unwrap_err().to_string();
    assert_eq!(unknown, "error: invalid argument \"5x\": time: unknown unit \"x\" in duration \"5x\"");
}
