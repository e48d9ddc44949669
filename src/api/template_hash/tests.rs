//! Tests of the template hash.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::json;

use super::*;

#[test]
fn fnv_and_encoding_are_the_published_ones() {
    let mut hash = Fnv::default();
    hash.write(b"foobar");
    assert_eq!(hash.0, 0xbf9c_f968);
    // '0' is 48, and 48 mod 27 is 21.
    assert_eq!(safe_encode("0123456789"), "456789bcdf");
}

#[test]
fn templates_and_collisions_are_told_apart() {
    let template = |image: &str| -> PodTemplateSpec {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "image": image}]}})).unwrap()
    };
    assert_eq!(of(&template("a"), None), of(&template("a"), None));
    assert_ne!(of(&template("a"), None), of(&template("b"), None));
    assert_ne!(of(&template("a"), None), of(&template("a"), Some(1)));
}
