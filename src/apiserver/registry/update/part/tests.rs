//! What stays as it was when a part is written.

use serde_json::json;

use super::*;

#[test]
fn what_admission_changes_beside_the_part_is_put_back() {
    let old = json!({
        "apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {"a": 1}, "status": {"b": 1},
    });
    let mut new = json!({
        "apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"a": 2}, "status": {"b": 2}, "data": {},
    });
    keep_all_but(Part::Status, &mut new, &old);
    let wanted = json!({
        "apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"a": 1}, "status": {"b": 2},
    });
    assert_eq!(new, wanted);
    let mut bare = json!({"metadata": {"name": "a"}});
    keep_all_but(Part::Spec, &mut bare, &old);
    assert_eq!(bare["status"], old["status"]);
    assert_eq!(bare["kind"], "Thing");
    assert_eq!(bare.get("spec"), None, "the part itself may go");
}
