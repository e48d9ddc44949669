//! Tests of the file that is edited: its head, and line ends.

use super::{HEAD, Style, with_head};

#[test]
fn what_was_wrong_stands_below_what_is_always_said() {
    assert_eq!(with_head("a: b\n", ""), format!("{HEAD}a: b\n"));
    let reasons = "pods \"x\" was not valid:\n * spec.y: Required value\n#\n";
    assert_eq!(
        with_head("a: b\n", reasons),
        format!("{HEAD}# pods \"x\" was not valid:\n# * spec.y: Required value\n#\na: b\n")
    );
}

#[test]
fn lines_end_as_asked_for() {
    assert_eq!(Style { json: false, windows: true }.written("a\nb\n"), "a\r\nb\r\n");
    assert_eq!(Style::default().written("a\n"), "a\n");
}
