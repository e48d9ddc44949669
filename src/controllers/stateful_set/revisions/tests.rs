//! Tests of which revision is the new one, and of what history may go.

use serde_json::json;

use super::*;

fn set(image: &str, limit: i32) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set", "annotations": {"why": "w"}},
        "spec": {
            "revisionHistoryLimit": limit,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    }))
    .unwrap()
}

fn revision(image: &str, number: i64) -> Arc<ControllerRevision> {
    Arc::new(new(&set(image, 10), number, 0).unwrap())
}

fn name(revision: &ControllerRevision) -> &str {
    text(&revision.metadata.name)
}

#[test]
fn a_template_gets_a_revision_once() {
    assert!(matches!(update(&set("one", 10), &[]), Update::New(1)));
    let history = [revision("one", 1), revision("two", 2)];
    assert!(matches!(update(&set("three", 10), &history), Update::New(3)));
    assert!(matches!(update(&set("two", 10), &history), Update::Newest(found) if found == history[1]));
    assert!(matches!(update(&set("one", 10), &history), Update::Again(found, 3) if found == history[0]));
}

#[test]
fn a_new_revision_is_the_sets() {
    let revision = revision("one", 4);
    let labels = revision.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["app"], "web");
    assert_eq!(name(&revision), format!("web-{}", labels[HASH_LABEL]));
    assert_eq!(revision.metadata.annotations.as_ref().unwrap()["why"], "w");
    assert_eq!(revision.metadata.owner_references.as_ref().unwrap()[0].uid, "set");
    // Another count of collisions gives another name.
    assert_ne!(name(&new(&set("one", 10), 4, 1).unwrap()), name(&revision));
}

#[test]
fn pods_are_at_the_revision_that_the_status_says() {
    let history = [revision("one", 1), revision("two", 2)];
    let mut told = set("two", 10);
    assert_eq!(current(&told, &history, &history[1]), history[1]);
    told.status.get_or_insert_default().current_revision = Some(name(&history[0]).to_string());
    assert_eq!(current(&told, &history, &history[1]), history[0]);
}

#[test]
fn history_that_is_in_use_stays() {
    let history: Vec<Arc<ControllerRevision>> =
        ["a", "b", "c", "d", "e"].iter().zip(1..).map(|(image, number)| revision(image, number)).collect();
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-0",
        "labels": {"controller-revision-hash": name(&history[0])}}}))
    .unwrap();
    let live = [name(&history[4]), name(&history[3])];
    let gone = |limit: i32| superfluous(&set("e", limit), &history, &[Arc::new(pod.clone())], live);
    assert_eq!(gone(10), []);
    assert_eq!(gone(1), [history[1].clone()]);
    assert_eq!(gone(0), [history[1].clone(), history[2].clone()]);
}
