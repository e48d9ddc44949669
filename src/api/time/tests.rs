//! Ages as they are printed.

use super::*;

#[test]
fn ages_are_printed_as_upstream_does() {
    let cases = [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (182, "3m2s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11100, "3h5m"),
        (28800, "8h"),
        (172799, "47h"),
        (172800, "2d"),
        (180000, "2d2h"),
        (691200, "8d"),
        (63072000, "2y"),
        (63158400, "2y1d"),
        (252288000, "8y"),
    ];
    for (seconds, want) in cases {
        assert_eq!(human_duration(SignedDuration::from_secs(seconds)), want, "{seconds}");
    }
}
