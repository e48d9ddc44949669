//! What a watch with selected fields shows, event by event.

use std::sync::Arc;

use serde_json::json;

use super::*;

fn object(color: &str) -> Arc<Object> {
    let tree =
        json!({ "metadata": { "name": "w", "namespace": "n" }, "spec": { "color": color, "size": 3 } });
    Arc::new(Object::from_tree(tree, 1).unwrap())
}

fn refine(selector: &str) -> Refine {
    Refine(FieldSelector::parse(selector).unwrap())
}

#[test]
fn fields_are_compared_as_texts() {
    assert!(refine("spec.color=red,spec.size=3").matches(&object("red")));
    assert!(!refine("spec.color=red").matches(&object("blue")));
    assert!(refine("spec.color!=red,spec.absent=").matches(&object("blue")));
}

#[test]
fn an_object_that_no_longer_matches_is_gone() {
    let shown = |resumed: bool, events: Vec<WatchEvent>| -> Vec<&'static str> {
        let mut watch = RefinedWatch::new(refine("spec.color=red"), resumed);
        let name = |event| match event {
            None => "nothing",
            Some(WatchEvent::Added(_)) => "added",
            Some(WatchEvent::Modified(_)) => "modified",
            Some(WatchEvent::Deleted(_)) => "deleted",
            Some(_) => "other",
        };
        events.into_iter().map(|event| name(watch.event(event))).collect()
    };
    let (red, blue) = (|| object("red"), || object("blue"));
    let events = vec![
        WatchEvent::Added(blue()),
        WatchEvent::Modified(red()),
        WatchEvent::Modified(red()),
        WatchEvent::Modified(blue()),
        WatchEvent::Modified(blue()),
        WatchEvent::Deleted(blue()),
    ];
    assert_eq!(shown(false, events), ["nothing", "added", "modified", "deleted", "nothing", "nothing"]);
    let resumed = vec![WatchEvent::Modified(red()), WatchEvent::Deleted(red())];
    assert_eq!(shown(true, resumed), ["modified", "deleted"]);
    assert_eq!(shown(true, vec![WatchEvent::Modified(blue())]), ["deleted"], "the reader may have it");
}
