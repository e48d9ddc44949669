//! How long controllers rest.

use super::*;

#[test]
fn rests_grow_with_the_looks_and_end_with_them() {
    let (rests, key) = (Rests::default(), ("ns".to_string(), "a".to_string()));
    assert_eq!(rests.of(&key), Duration::ZERO);
    rests.took(&key, Duration::from_millis(4));
    assert_eq!(rests.of(&key), Duration::from_millis(36));
    rests.took(&key, Duration::from_secs(4));
    assert_eq!(rests.of(&key), MOST);
    rests.took(&key, Duration::from_micros(900));
    assert_eq!(rests.of(&key), Duration::ZERO);
    rests.took(&key, Duration::from_millis(2));
    rests.forget(&key);
    assert!(rests.by_owner.lock().is_empty());
}
