//! Masks and programs.

use serde_json::json;

use super::*;

#[test]
fn stars_tell_what_is_equal_and_what_is_not() {
    let mut from = json!({"data": {"same": "YQ==", "other": "YQ==", "gone": "YQ=="}});
    let mut to = json!({"data": {"same": "YQ==", "other": "Yg==", "new": "Yg=="}});
    masked::mask(Some(&mut from), &mut to);
    assert_eq!(from, json!({"data": {"same": "***", "other": "*** (before)", "gone": "***"}}));
    assert_eq!(to, json!({"data": {"same": "***", "other": "*** (after)", "new": "***"}}));

    let mut fresh = json!({"data": {"new": "*** (after)"}, "kind": "Secret"});
    masked::mask(None, &mut fresh);
    assert!(!fresh.to_string().contains("YQ"), "{fresh}");
    masked::mask(None, &mut json!({"kind": "Secret"}));
}

#[test]
fn the_program_is_diff_or_the_users_with_plain_arguments() {
    assert_eq!(program(None).0, "diff");
    assert_eq!(program(Some("")).1, ["-u", "-N"]);
    let (name, arguments) = program(Some("colordiff -N -u $(reboot) --x=y ;ls"));
    assert_eq!(name, "colordiff");
    assert_eq!(arguments, ["-N", "-u", "--x=y"]);
}
