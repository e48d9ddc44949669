//! How the pauses of a node grow, and when they begin anew.

use super::*;

#[test]
fn delays_double_and_begin_anew() {
    let mut backoff = Backoff::default();
    let mut now = Instant::now();
    assert_eq!(backoff.left(&"n1", now), None);
    let mut delays = Vec::new();
    for _ in 0..12 {
        backoff.lengthen("n1", now);
        let left = backoff.left(&"n1", now).unwrap();
        delays.push(left.as_secs());
        now += left;
        assert_eq!(backoff.left(&"n1", now), None);
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
    backoff.lengthen("n1", now + 3 * MOST);
    assert_eq!(backoff.left(&"n1", now + 3 * MOST), Some(FIRST));
}
