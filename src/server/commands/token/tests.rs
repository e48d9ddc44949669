//! Lengths of time as they are read.

use super::seconds;

#[test]
fn lengths_of_time_are_read() {
    assert_eq!(seconds("24h").unwrap(), Some(86_400));
    assert_eq!(seconds("1h30m").unwrap(), Some(5_400));
    assert_eq!(seconds("0").unwrap(), None);
    for wrong in ["", "soon", "-1h", "5", "1ms"] {
        assert!(seconds(wrong).is_err(), "{wrong}");
    }
}
