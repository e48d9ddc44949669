//! Forms of the token.

use super::*;

#[test]
fn a_token_reads_back_as_it_was_written() {
    let token = Token { ca_hash: None, secret: "s3cret:with-colon".into() };
    let read = Token::parse(&token.full("PEM")).unwrap();
    assert_eq!(read.secret, token.secret);
    assert_eq!(read.ca_hash.as_deref(), Some(hash_of("PEM").as_str()));
    assert!(!format!("{read:?}").contains("s3cret"));
}

#[test]
fn a_bare_secret_is_a_token() {
    assert_eq!(Token::parse(" abc\n").unwrap(), Token { ca_hash: None, secret: "abc".into() });
}

#[test]
fn broken_tokens_are_refused_with_a_reason() {
    for (text, why) in [("", "empty"), ("a b", "spaces"), ("K10zz", "no '::'"), ("K10zz::server:x", "64 hex")]
    {
        let refused = Token::parse(text).unwrap_err().to_string();
        assert!(refused.contains(why), "{text}: {refused}");
    }
}
