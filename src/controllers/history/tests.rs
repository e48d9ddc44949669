//! Tests of revisions' data, order and names.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

fn template(image: &str) -> PodTemplateSpec {
    serde_json::from_value(json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }))
    .unwrap()
}

fn revision(name: &str, number: i64, image: &str) -> Arc<ControllerRevision> {
    Arc::new(ControllerRevision {
        metadata: ObjectMeta { name: Some(name.to_string()), ..ObjectMeta::default() },
        data: Some(data_of(&template(image)).unwrap()),
        revision: number,
    })
}

#[test]
fn the_data_is_a_patch_that_replaces_the_template() {
    let data = data_of(&template("one")).unwrap().0;
    assert_eq!(data["spec"]["template"]["$patch"], "replace");
    assert_eq!(data["spec"]["template"]["spec"]["containers"][0]["image"], "one");
    assert_eq!(template_of(&revision("a", 1, "one")), Some(template("one")));
}

#[test]
fn revisions_are_known_by_their_template() {
    let one = revision("a", 1, "one");
    assert!(restores(&one, &template("one")));
    assert!(!restores(&one, &template("two")));
    // What another controller left empty is the same as what we leave out.
    let mut padded = (*one).clone();
    padded.data.as_mut().unwrap().0["spec"]["template"]["spec"]["securityContext"] = json!({});
    assert!(restores(&padded, &template("one")));
    padded.data = Some(RawExtension(json!({"spec": 1})));
    assert!(!restores(&padded, &template("one")));
}

#[test]
fn revisions_are_sorted_by_number_then_name() {
    let mut revisions = [revision("b", 2, "x"), revision("c", 1, "x"), revision("a", 2, "x")];
    sort(&mut revisions);
    let names: Vec<&str> = revisions.iter().map(|revision| text(&revision.metadata.name)).collect();
    assert_eq!(names, ["c", "a", "b"]);
}

#[test]
fn long_names_are_cut() {
    assert_eq!(name_of("web", "5d4f"), "web-5d4f");
    assert_eq!(name_of(&"x".repeat(250), "5d4f").len(), 223 + 5);
}
