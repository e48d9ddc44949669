//! The flags of a node.

use super::*;

#[test]
fn connections_fit_into_the_limit_of_open_files() {
    let wanted = ConnectionLimits { total: 8192, reserved: 512, per_address: 512, per_user: 1024 };
    assert_eq!(fitted(wanted, 1 << 20, 3).unwrap(), wanted);
    assert_eq!(fitted(wanted, 3 * 8192 + 512, 3).unwrap(), wanted);
    let lowered = fitted(wanted, 4096, 3).unwrap();
    assert_eq!((lowered.total, lowered.reserved), (1194, 74));
    assert!(3 * lowered.total + OTHER_FILES <= 4096);
    assert!(fitted(wanted, 600, 3).unwrap_err().to_string().contains("the limit of open files is 600"));
    // A small number that was asked for is not lowered.
    let few = ConnectionLimits { total: 20, reserved: 4, ..wanted };
    assert_eq!(fitted(few, 1024, 3).unwrap(), few);
}

#[test]
fn taints_are_read_and_checked() {
    let taint = parse_taint("dedicated=db:NoSchedule").unwrap();
    assert_eq!(
        (taint.key.as_str(), taint.value.as_deref(), taint.effect.as_str()),
        ("dedicated", Some("db"), "NoSchedule")
    );
    assert_eq!(parse_taint("a:NoExecute").unwrap().value, None);
    for wrong in ["a", "a:Never", ":NoSchedule"] {
        assert!(parse_taint(wrong).is_err(), "{wrong}");
    }
}
