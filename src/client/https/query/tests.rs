//! Percent-encoding, there and back.

use super::*;

#[test]
fn components_come_back_as_they_were() {
    for text in ["", "web-1", "a b/c?d=e&f", "100%", "%41", "søk", "+"] {
        let encoded = encode_component(text);
        assert!(encoded.bytes().all(|byte| byte.is_ascii() && !b" /?&=+".contains(&byte)), "{encoded}");
        assert_eq!(decode_component(&encoded), text);
    }
}

#[test]
fn what_is_no_escape_stays() {
    assert_eq!(decode_component("p%40ss"), "p@ss");
    assert_eq!(decode_component("5%"), "5%");
    assert_eq!(decode_component("5%4"), "5%4");
    assert_eq!(decode_component("%zz+é"), "%zz+é");
    assert_eq!(decode_component("%ff"), "\u{fffd}");
}
