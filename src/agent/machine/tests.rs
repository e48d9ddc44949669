//! What is read from the machine.

use super::*;

#[test]
fn versions_are_read_from_what_distributions_print() {
    assert_eq!(
        version_of("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1"),
        Some((1, 6))
    );
    assert_eq!(version_of("containerd github.com/containerd/containerd/v2 v2.1.4 abc"), Some((2, 1)));
    assert_eq!(version_of("containerd"), None);
}

#[test]
fn node_names_are_checked() {
    assert_eq!(check_node_name("a-1.example").unwrap(), "a-1.example");
    for wrong in ["", "A", "a_b", "-a", "a-", "a..b"] {
        assert!(check_node_name(wrong).is_err(), "{wrong}");
    }
}
