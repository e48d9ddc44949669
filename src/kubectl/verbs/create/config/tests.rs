//! Tests of hashes in names: those that kubectl 1.36 gives to the same objects.

use serde_json::json;

use super::append_hash;

#[test]
fn names_end_in_the_hash_that_kubectl_makes() {
    for (mut object, expected) in [
        (json!({"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}), "c-m4h6ctkgb2"),
        (json!({"kind": "ConfigMap", "metadata": {"name": "e"}}), "e-gmbcf66h4d"),
        (json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}}), "s-7fd2tm89d8"),
        (json!({"kind": "Secret", "metadata": {"name": "s"}}), "s-6cmg28h685"),
        (
            json!({"kind": "Secret", "type": "foo", "metadata": {"name": "s"}, "data": {"a": "Yjw="}}),
            "s-kfdcgghdkf",
        ),
    ] {
        append_hash(&mut object);
        assert_eq!(object["metadata"]["name"], expected);
    }
}
