//! Forms of the token.

use super::*;

#[test]
fn a_token_reads_back_as_it_was_written() {
    let token = Token { ca_hash: None, secret: "s3cret:with-colon".into() };
    let read = Token::parse(&token.full("PEM", "node")).unwrap();
    assert_eq!(read.secret, token.secret);
    assert_eq!(read.ca_hash.as_deref(), Some(hash_of("PEM").as_str()));
    assert!(!format!("{read:?}").contains("s3cret"));
}

#[test]
fn a_bare_secret_is_a_token() {
    assert_eq!(Token::parse(" abc\n").unwrap(), Token { ca_hash: None, secret: "abc".into() });
}

#[test]
fn a_token_that_ends_reads_back_whole() {
    let read = Token::parse(&Token::full_bootstrap("PEM", "abcdef.0123456789abcdef")).unwrap();
    assert_eq!(read.secret, "abcdef.0123456789abcdef");
    assert_eq!(read.ca_hash.as_deref(), Some(hash_of("PEM").as_str()));
}

#[test]
fn a_token_is_taken_out_of_the_installers_file_and_nothing_else() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("minik8s.env");
    assert!(!forget(&file, "s3cret").unwrap(), "there is none");
    let text =
        "MINIK8S_URL=\"https://192.0.2.1:6443\"\nMINIK8S_TOKEN=\"s3\\$cret\"\nMINIK8S_NODE_NAME=\"two\"\n";
    std::fs::write(&file, text).unwrap();
    assert!(!forget(&file, "another").unwrap());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert!(forget(&file, "s3$cret").unwrap());
    let left = std::fs::read_to_string(&file).unwrap();
    assert_eq!(left, "MINIK8S_URL=\"https://192.0.2.1:6443\"\nMINIK8S_NODE_NAME=\"two\"\n");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn broken_tokens_are_refused_with_a_reason() {
    for (text, why) in [("", "empty"), ("a b", "spaces"), ("K10zz", "no '::'"), ("K10zz::server:x", "64 hex")]
    {
        let refused = Token::parse(text).unwrap_err().to_string();
        assert!(refused.contains(why), "{text}: {refused}");
    }
}
