//! What is printed.

use super::*;

#[test]
fn the_status_says_what_to_do() {
    let mut status = EncryptionStatus {
        origin: Origin::Cluster,
        enabled: true,
        keys: vec!["key2".into(), "key1".into()],
        encrypted: 3,
        stale: 1,
        unreadable: vec!["unable to transform key \"/registry/secrets/a/b\": no".into()],
        ailing: Vec::new(),
    };
    let said = text(&status);
    for line in [
        "Encryption: enabled, with keys that the cluster keeps",
        "Key: key2 (active)",
        "Key: key1",
        "Encrypted values: 3",
        "Values in an older form: 1",
        "Unreadable: unable to transform key \"/registry/secrets/a/b\": no",
    ] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    status.enabled = false;
    assert!(!text(&status).contains("active"));
}
