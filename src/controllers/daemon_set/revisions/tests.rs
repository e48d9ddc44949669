//! Tests of a daemon set's history.

use super::*;

fn set(image: &str, limit: i32) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "agent", "namespace": "ns", "uid": "set"},
        "spec": {
            "revisionHistoryLimit": limit,
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"spec": {"containers": [{"name": "c", "image": image}]}},
        },
    }))
    .unwrap()
}

#[test]
fn history_that_pods_are_of_stays() {
    let old: Vec<Arc<ControllerRevision>> = ["a", "b", "c"]
        .iter()
        .zip(1..)
        .map(|(image, number)| Arc::new(new_revision(&set(image, 10), number).unwrap()))
        .collect();
    assert_eq!(text(&old[0].metadata.name), format!("agent-{}", hash_of(&old[0])));
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p",
        "labels": {REVISION_LABEL: hash_of(&old[0])}}}))
    .unwrap();
    let pods = [Arc::new(pod)];
    assert_eq!(superfluous(&set("d", 10), &old, &pods), []);
    assert_eq!(superfluous(&set("d", 2), &old, &pods), [old[1].clone()]);
    assert_eq!(superfluous(&set("d", 0), &old, &pods), [old[1].clone(), old[2].clone()]);
}

#[test]
fn a_new_revision_leaves_its_owner_asleep() {
    let revision = |owned: bool| {
        let mut revision = new_revision(&set("a", 10), 1).unwrap();
        revision.metadata.owner_references = revision.metadata.owner_references.filter(|_| owned);
        Arc::new(revision)
    };
    let change =
        |old: Option<bool>, new: Option<bool>| Change { old: old.map(revision), new: new.map(revision) };
    let woken = |old, new| that_matter(&change(old, new)).count();
    assert_eq!(woken(None, Some(true)), 0);
    assert_eq!(woken(Some(true), Some(true)), 2, "who had it and who has it");
    assert_eq!(woken(Some(true), None), 1, "one that was deleted may have been needed");
    let adopted = |old, new| orphan(&change(old, new)).is_some();
    assert!(adopted(None, Some(false)) && adopted(Some(true), Some(false)));
    assert!(!adopted(None, Some(true)) && !adopted(Some(false), None));
}
