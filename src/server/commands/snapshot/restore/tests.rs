//! Which secrets open a snapshot.

use super::*;
use crate::snapshot::seal_key;

#[test]
fn old_snapshots_are_opened_by_the_token_and_new_ones_by_any_key_that_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let instance = Instance::of(folder.path()).unwrap();
    agent::files::private_directory(&instance.server_dir()).unwrap();
    let given = |seal_key: Option<&str>, token: Option<&str>| Given {
        seal_key: seal_key.map(str::to_string),
        token: token.map(str::to_string),
        passphrase_file: None,
    };
    let may_open = |seal_key, token| given(seal_key, token).candidates(&instance).unwrap();
    let nothing = given(None, None).candidates(&instance).unwrap_err().to_string();
    assert!(nothing.contains("no secret is given"), "{nothing}");
    let token = Token { ca_hash: None, secret: "of-the-token".into() }.full("CA", "server");
    assert_eq!(may_open(None, Some(&token)), ["of-the-token"]);
    assert_eq!(may_open(Some("one\ntwo\n"), Some(&token)), ["one", "two", "of-the-token"]);
    // From the data directory: all keys, and the token that sealed before there were any.
    std::fs::write(instance.server_dir().join("token"), &token).unwrap();
    assert_eq!(may_open(None, None), ["of-the-token"]);
    let first = secrets::rotate_seal_key(&instance).unwrap();
    let second = secrets::rotate_seal_key(&instance).unwrap();
    assert_eq!(seal_key(&instance).unwrap(), second, "the newest seals");
    assert_eq!(may_open(None, None), [second, first.clone(), "of-the-token".to_string()]);

    // Deriving a key takes its time, so only this once: the right one need not be the first.
    let old = file::seal(b"of-the-token", KEYS, b"keys").unwrap();
    let open = |given: Given| given.open(&instance, Path::new("file"), &old);
    assert_eq!(open(given(Some(&first), Some(&token))).unwrap(), b"keys");
    let refused = open(given(Some(&first), None)).unwrap_err().to_string();
    assert!(refused.contains("was not sealed with this secret"), "{refused}");
}
