//! Tests of telling sets apart, and of revisions.

use serde_json::{Value, json};

use super::*;

fn deployment(image: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "annotations": {
            "note": "kept", "kubectl.kubernetes.io/last-applied-configuration": "{}",
        }},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template(image)},
    }))
    .unwrap()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn set(name: &str, image: &str, revision: i64, replicas: i32) -> Arc<ReplicaSet> {
    let mut template = template(image);
    template["metadata"]["labels"][template_hash::LABEL] = json!(name);
    template["spec"]["volumes"] = json!([]);
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {REVISION: revision.to_string()}},
            "spec": {"replicas": replicas, "selector": {}, "template": template},
            "status": {"replicas": replicas},
        }))
        .unwrap(),
    )
}

#[test]
fn the_new_set_is_known_by_its_template() {
    let sets = [set("a", "v1", 1, 0), set("b", "v2", 2, 3)];
    let (new, old) = split(&deployment("v2"), &sets);
    assert_eq!(new.unwrap().metadata.name.as_deref(), Some("b"));
    assert_eq!(old.len(), 1);
    let (none, old) = split(&deployment("v3"), &sets);
    assert!(none.is_none());
    assert_eq!(next_revision(&old), 3);
}

#[test]
fn a_new_set_carries_the_hash_and_the_annotations() {
    let deployment = deployment("v1");
    let mut set = new_set(&deployment).unwrap();
    let hash = set.metadata.labels.as_ref().unwrap()[template_hash::LABEL].clone();
    assert_eq!(set.metadata.name, Some(format!("web-{hash}")));
    let selector = set.spec.as_ref().unwrap().selector.match_labels.clone().unwrap();
    assert_eq!((selector["app"].as_str(), &selector[template_hash::LABEL]), ("web", &hash));
    assert!(annotate_new(&mut set, &deployment, 1, Some((3, 4))));
    assert!(!annotate_new(&mut set, &deployment, 1, Some((3, 4))));
    let annotations = set.metadata.annotations.clone().unwrap();
    assert_eq!(annotations["note"], "kept");
    assert!(!annotations.contains_key("kubectl.kubernetes.io/last-applied-configuration"));
    assert_eq!((annotations[REVISION].as_str(), annotations[DESIRED_REPLICAS].as_str()), ("1", "3"));
    assert!(annotate_new(&mut set, &deployment, 5, None), "rolled back to");
    assert_eq!(set.metadata.annotations.unwrap()[REVISION_HISTORY], "1");
}

#[test]
fn only_idle_sets_beyond_the_limit_go() {
    let old = [set("c", "v3", 3, 0), set("a", "v1", 1, 0), set("b", "v2", 2, 1), set("d", "v4", 4, 0)];
    let names = |sets: Vec<Arc<ReplicaSet>>| {
        sets.iter().map(|set| set.metadata.name.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(superfluous(&old, 1)), ["a", "c"]);
    assert_eq!(names(superfluous(&old, 2)), ["a"]);
    assert!(superfluous(&old, 10).is_empty());
}
