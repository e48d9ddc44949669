//! Tests of the owner graph: single cases, and the invariant under random histories.

use std::collections::BTreeMap;

use api::kinds;
use proptest::prelude::*;

use super::*;

fn reference(uid: &str, block: bool) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: uid.into(),
        uid: uid.into(),
        controller: None,
        block_owner_deletion: Some(block),
    }
}

fn seen(uid: &str, owners: &[&str]) -> Seen {
    Seen {
        identity: Identity {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            namespace: Some("ns".into()),
            name: uid.into(),
            uid: uid.into(),
        },
        owners: owners.iter().map(|owner| reference(owner, true)).collect(),
        terminating: false,
        orphan: false,
        foreground: false,
    }
}

fn delete(uid: &str) -> Work {
    Work::Delete(uid.to_string())
}

#[test]
fn an_owner_seen_only_in_a_reference_is_looked_up() {
    let mut graph = Graph::default();
    assert_eq!(graph.observe(seen("pod", &["set"])), [delete("set")]);
    assert!(graph.view("set").unwrap().is_virtual);
    assert_eq!(graph.absent("set"), [delete("pod")], "it is not there: its dependent goes");
    assert!(graph.view("set").is_some(), "it stays known as long as something refers to it");
    graph.removed("pod");
    assert!(graph.view("set").is_none() && graph.view("pod").is_none());
}

#[test]
fn dependents_are_looked_at_when_their_owner_goes() {
    let mut graph = Graph::default();
    assert!(graph.observe(seen("set", &[])).is_empty());
    assert!(graph.observe(seen("pod", &["set"])).is_empty());
    assert_eq!(graph.removed("set"), [delete("pod")]);
}

#[test]
fn foreground_deletion_starts_with_the_dependents_and_ends_with_the_last() {
    let mut graph = Graph::default();
    graph.observe(seen("set", &[]));
    graph.observe(seen("pod", &["set"]));
    let marked = Seen { terminating: true, foreground: true, ..seen("set", &[]) };
    assert_eq!(graph.observe(marked), [delete("pod"), delete("set")]);
    assert_eq!(graph.blocking_dependents("set"), [("pod".to_string(), false)]);
    let unblocked = Seen { owners: vec![reference("set", false)], ..seen("pod", &[]) };
    assert_eq!(graph.observe(unblocked), [delete("set")], "it does not block any more");
    assert!(graph.blocking_dependents("set").is_empty());
    assert_eq!(graph.removed("pod"), [delete("set")]);
}

#[test]
fn a_dependent_found_gone_before_its_informer_tells_frees_its_owner() {
    let mut graph = Graph::default();
    graph.observe(seen("set", &[]));
    graph.observe(seen("pod", &["set"]));
    graph.observe(Seen { terminating: true, foreground: true, ..seen("set", &[]) });
    assert_eq!(graph.absent("pod"), [delete("set")]);
    assert!(graph.removed("pod").is_empty());
}

#[test]
fn orphaning_is_asked_for_once() {
    let mut graph = Graph::default();
    graph.observe(seen("set", &[]));
    let marked = || Seen { terminating: true, orphan: true, ..seen("set", &[]) };
    assert_eq!(graph.observe(marked()), [Work::Orphan("set".to_string())]);
    assert!(graph.observe(marked()).is_empty());
}

#[test]
fn a_reference_into_another_namespace_is_found_out() {
    let mut graph = Graph::default();
    graph.observe(seen("pod", &["set"]));
    let mut elsewhere = seen("set", &[]);
    elsewhere.identity.namespace = Some("other".into());
    assert_eq!(graph.observe(elsewhere), [delete("pod")]);
}

#[test]
fn an_owner_that_was_seen_to_go_is_told_from_one_never_seen() {
    let mut graph = Graph::default();
    graph.observe(seen("pod", &["set", "unseen"]));
    graph.observe(seen("set", &[]));
    graph.removed("set");
    assert!(graph.view("set").unwrap().was_removed);
    assert!(!graph.view("unseen").unwrap().was_removed);
    graph.observe(seen("set", &[]));
    assert!(!graph.view("set").unwrap().was_removed, "it is back");
}

#[test]
fn an_object_knows_its_kind() {
    let object = api::Object::from_tree(
        serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"}}),
        1,
    )
    .unwrap();
    assert_eq!(Seen::of(&kinds::POD, &object).identity.kind, "Pod");
}

#[derive(Clone, Debug)]
enum Step {
    Observe { uid: u8, owners: Vec<u8>, terminating: bool, foreground: bool },
    Remove(u8),
    Absent(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..8, proptest::collection::vec(0u8..8, 0..3), any::<bool>(), any::<bool>())
            .prop_map(|(uid, owners, terminating, foreground)| Step::Observe { uid, owners, terminating, foreground }),
        2 => (0u8..8).prop_map(Step::Remove),
        1 => (0u8..8).prop_map(Step::Absent),
    ]
}

proptest! {
    #[test]
    fn the_graph_stays_consistent(steps in proptest::collection::vec(step(), 1..60)) {
        let mut graph = Graph::default();
        let mut present: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Observe { uid, mut owners, terminating, foreground } => {
                    owners.sort();
                    owners.dedup();
                    let names: Vec<String> = owners.iter().map(u8::to_string).collect();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    graph.observe(Seen { terminating, foreground, ..seen(&uid.to_string(), &names) });
                    present.insert(uid, owners);
                }
                Step::Remove(uid) => {
                    let work = graph.removed(&uid.to_string());
                    present.remove(&uid);
                    for (dependent, owners) in &present {
                        if owners.contains(&uid) {
                            prop_assert!(work.contains(&delete(&dependent.to_string())));
                        }
                    }
                }
                // Only what is not there is ever found absent.
                Step::Absent(uid) if !present.contains_key(&uid) => {
                    graph.absent(&uid.to_string());
                }
                Step::Absent(_) => {}
            }
            graph.validate();
        }
        for uid in present.keys() {
            graph.removed(&uid.to_string());
        }
        graph.validate();
        prop_assert!(graph.nodes.is_empty());
    }
}
