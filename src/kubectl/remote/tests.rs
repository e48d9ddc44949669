//! What a status means, and the keys that detach.

use super::*;

#[test]
fn a_status_is_an_exit_code_or_a_message() {
    assert!(outcome(&json!({"status": "Success"})).is_ok());
    let causes = json!([{"reason": "Other"}, {"reason": "ExitCode", "message": "42"}]);
    let failed = json!({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}});
    let error = outcome(&failed).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string()), (42, String::new()), "the message is told at once");
    let error = outcome(&json!({"status": "Failure", "message": "no such file"})).unwrap_err();
    assert_eq!((error.exit_code(), &*error.to_string()), (1, "error: no such file"));
    let error = outcome(&json!({"status": "Failure", "reason": "NonZeroExitCode"})).unwrap_err();
    assert_eq!(error.to_string(), "error: error stream protocol error: no ExitCode cause given");
}

#[test]
fn detach_keys_are_held_back_and_found() {
    assert_eq!(detach_keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
    assert_eq!(detach_keys("a,ctrl-@").unwrap(), [b'a', 0]);
    assert!(detach_keys("ctrl-1").is_err() && detach_keys("word").is_err());
    let wanted = [16, 17];
    let mut keys = Keys::new(&wanted);
    assert_eq!(keys.pass(b"ls\x10").unwrap(), b"ls");
    assert_eq!(keys.pass(b"x").unwrap(), b"\x10x", "it was not what it seemed");
    assert_eq!(keys.pass(b"\x10\x10").unwrap(), b"\x10");
    assert_eq!(keys.pass(b"\x11"), None);
    let mut none = Keys::new(&[]);
    assert_eq!(none.pass(b"\x10\x11").unwrap(), b"\x10\x11");
}
