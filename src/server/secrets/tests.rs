//! What is made, kept and replaced.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn instance(folder: &tempfile::TempDir) -> Instance {
    let instance = Instance::of(folder.path()).unwrap();
    files::private_directory(&instance.server_dir()).unwrap();
    instance
}

#[test]
fn agents_have_a_token_of_their_own_that_can_be_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let instance = instance(&folder);
    server_token(&instance, None, "CA").unwrap();
    let agents = AgentToken::open(&instance, None, "CA").unwrap();
    let read = |name: &str| fs::read_to_string(instance.server_dir().join(name)).unwrap();
    let (first, server) = (read("agent-token"), read("token"));
    assert!(first.contains("::node:") && server.contains("::server:"), "{first}{server}");
    assert_ne!(Token::parse(&first).unwrap().secret, Token::parse(&server).unwrap().secret);
    assert_eq!(*agents.subscribe().borrow(), Token::parse(&first).unwrap().secret);

    let counts = agents.subscribe();
    let second = agents.replace(agents.another().unwrap()).unwrap();
    assert_ne!(second, first.trim());
    assert_eq!(*counts.borrow(), Token::parse(&second).unwrap().secret, "whoever checks knows at once");
    assert_eq!(read("token"), server, "the server's stays");
    let again = AgentToken::open(&instance, None, "CA").unwrap();
    assert_eq!(*again.subscribe().borrow(), Token::parse(&second).unwrap().secret);
    let given = AgentToken::open(&instance, Some("mine"), "CA").unwrap();
    assert_eq!(*given.subscribe().borrow(), "mine");
    assert!(given.another().unwrap_err().to_string().contains("--agent-token"));
    let mode = fs::metadata(instance.server_dir().join("agent-token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_newest_seal_key_comes_first_and_none_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let instance = instance(&folder);
    assert_eq!(seal_keys(&instance).unwrap(), Vec::<String>::new());
    ensure_seal_key(&instance).unwrap();
    let first = seal_keys(&instance).unwrap();
    ensure_seal_key(&instance).unwrap();
    assert_eq!(seal_keys(&instance).unwrap(), first, "made once");
    let second = rotate_seal_key(&instance).unwrap();
    assert_eq!(seal_keys(&instance).unwrap(), [second, first[0].clone()]);
}

#[test]
fn the_key_of_encryption_is_made_once_and_refused_when_it_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let instance = instance(&folder);
    let key = encryption_key(&instance).unwrap();
    assert_eq!(encryption_key(&instance).unwrap(), key);
    let path = instance.server_dir().join("encryption-key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, "not a key\n").unwrap();
    assert!(encryption_key(&instance).unwrap_err().to_string().contains("64 hexadecimal digits"));
}
