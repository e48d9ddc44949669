//! Lengths of time as they are read.

use super::seconds;

#[test]
fn lengths_of_time_are_read() {
    assert_eq!(seconds("24h").unwrap(), Some(86_400));
    assert_eq!(seconds("1h30m").unwrap(), Some(5_400));
    assert_eq!(seconds("7d").unwrap(), Some(7 * 86_400));
    assert_eq!(seconds("30d12h").unwrap(), Some(30 * 86_400 + 43_200));
    let said = seconds("soon").unwrap_err().to_string();
    assert!(said.contains("30m, 24h or 7d") && !said.contains("jiff"), "{said}");
    assert_eq!(seconds("0").unwrap(), None);
    for wrong in ["", "soon", "-1h", "5", "1ms"] {
        assert!(seconds(wrong).is_err(), "{wrong}");
    }
}
