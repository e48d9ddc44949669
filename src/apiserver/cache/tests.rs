//! Rings, confined topics, fields.

use std::collections::VecDeque;
use std::sync::Arc;

use api::kinds::POD;
use api::{FieldSelector, LabelSelector, Object, WatchEvent};
use bytes::BytesMut;
use embedded_store::{Event, KeyValue};
use serde_json::json;

use super::entry::Change;
use super::fields::pick;
use super::selectable::Selectable;
use super::topic::{ALONE, Topic};
use super::{Caches, Entry, Filter, KindCache, Start};
use crate::registry::strategies;

fn change(revision: u64) -> Arc<Change> {
    let tree = json!({ "metadata": { "name": "a" }, "data": { "k": "x".repeat(100) } });
    let entry = Entry::new(Arc::new(Object::from_tree(tree, revision).unwrap()));
    Arc::new(Change::new(revision, None, Some(Arc::new(entry))))
}

#[test]
fn a_ring_is_bounded_and_tells_those_who_fell_behind() {
    let topic = Topic::new(10);
    for revision in 11..=9000 {
        topic.push(change(revision));
    }
    let mut out = VecDeque::new();
    assert!(topic.read(0, 10, &mut out).is_err(), "the first changes are gone");
    assert!(topic.after(11).is_err());
    let cursor = topic.after(8990).unwrap();
    let cursor = topic.read(cursor, 4, &mut out).unwrap();
    assert_eq!(out.iter().map(|one| one.revision).collect::<Vec<_>>(), [8991, 8992, 8993, 8994]);
    topic.read(cursor, 100, &mut out).unwrap();
    assert_eq!(out.len(), 10);
    assert_eq!(topic.end(), 8990);
    assert_eq!(topic.after(9000).unwrap(), topic.end());
}

#[test]
fn pieces_that_nobody_shares_are_small() {
    let topic = Topic::new(0);
    for revision in 1..=600 {
        topic.push(change(revision));
    }
    let write = |event: WatchEvent, out: &mut BytesMut| {
        if let WatchEvent::Added(object) = event {
            object.write_json(out);
        }
    };
    let read = |cursor| topic.read_written(cursor, 1 << 20, write).unwrap().unwrap();
    let (shared, behind) = read(0);
    assert!(shared.len() > ALONE + 1024, "{} bytes are too few to tell", shared.len());
    assert_eq!(read(0).0.as_ptr(), shared.as_ptr(), "all who read there are sent the same");
    read(behind);
    let (alone, _) = read(0);
    assert!(alone.len() < ALONE + 1024, "{}", alone.len());
    let alone = alone.try_into_mut().expect("nobody shares it");
    assert!(alone.capacity() <= alone.len() + alone.len() / 4, "{} for {}", alone.capacity(), alone.len());
}

fn pod(name: &str, node: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" },
        "spec": { "nodeName": node, "containers": [{ "name": "spec", "env": [{ "nodeName": "no" }] }] },
        "status": { "phase": "Pending" },
    })
}

fn put(kind: &KindCache, name: &str, node: &str, revision: u64) {
    let key = bytes::Bytes::from(POD.storage_key(Some("default"), name).unwrap());
    let value = api::object::encode(pod(name, node)).unwrap();
    let kv = KeyValue {
        key: key.clone(),
        value,
        create_revision: 1,
        mod_revision: revision,
        version: 1,
        lease: 0,
    };
    kind.apply(&Event { key, new: Some(kv), old: None, revision });
}

fn on_node(node: &str) -> Filter {
    Filter {
        namespace: None,
        labels: LabelSelector::everything(),
        fields: FieldSelector::equals("spec.nodeName", node),
        selectable: Arc::new(Selectable::of(strategies::for_row(&POD))),
    }
}

#[test]
fn a_node_sees_its_pods_come_and_go_and_is_not_woken_for_others() {
    let caches = Caches::new();
    let kind = caches.register(&POD, strategies::for_row(&POD)).unwrap();
    put(&kind, "before", "n1", 1);
    let mut present = kind.watch(on_node("n1"), Start::Present).unwrap();
    assert_eq!(present.next_initial().unwrap().name(), "before");
    assert!(present.next_initial().is_none());
    let mut resumed = kind.watch(on_node("n1"), Start::After(0)).unwrap();
    for n in 0..300 {
        put(&kind, &format!("other{n}"), "n2", 2 + n);
    }
    put(&kind, "mine", "", 400);
    put(&kind, "mine", "n1", 401);
    put(&kind, "mine", "n2", 402);
    for watcher in [&mut present, &mut resumed] {
        let mut seen = Vec::new();
        while let Some(event) = watcher.try_next().unwrap() {
            seen.push(match event {
                WatchEvent::Added(object) => format!("added {}@{}", object.name(), object.resource_version()),
                WatchEvent::Deleted(object) => {
                    format!("deleted {}@{}", object.name(), object.resource_version())
                }
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(seen[seen.len() - 2..], ["added mine@401", "deleted mine@402"]);
    }
    assert_eq!(caches.indexed(&POD, "spec.nodeName", "n1").len(), 1);
    assert_eq!(caches.indexed(&POD, "spec.nodeName", "n2").len(), 301);
    assert_eq!(caches.indexed(&POD, "spec.nodeName", "").len(), 0);
    assert_eq!(kind.select(&on_node("n1"), None, 0).objects.len(), 1);
}

fn names(event: WatchEvent, out: &mut BytesMut) {
    let (WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object)) = event
    else {
        panic!("{event:?}")
    };
    out.extend_from_slice(format!("{} ", object.name()).as_bytes());
}

#[test]
fn watchers_of_everything_share_what_is_written() {
    let caches = Caches::new();
    let kind = caches.register(&POD, strategies::for_row(&POD)).unwrap();
    let all = |namespace: Option<&str>| Filter {
        namespace: namespace.map(str::to_string),
        labels: LabelSelector::everything(),
        fields: FieldSelector::default(),
        selectable: Arc::new(Selectable::of(strategies::for_row(&POD))),
    };
    put(&kind, "a", "", 1);
    let mut first = kind.watch(all(Some("default")), Start::Now).unwrap();
    let mut second = kind.watch(all(Some("default")), Start::After(0)).unwrap();
    let mut late = kind.watch(all(Some("default")), Start::Now).unwrap();
    let mut picky = kind.watch(on_node("n1"), Start::Now).unwrap();
    let mut future = kind.watch(all(Some("default")), Start::After(3)).unwrap();
    assert!(first.try_written(100, names).is_none(), "nothing has happened");
    put(&kind, "b", "", 2);
    assert_eq!(first.try_written(100, names).unwrap(), "b ");
    assert!(second.try_written(100, names).is_none(), "older changes are its own to read");
    let mut seen = Vec::new();
    while let Some(WatchEvent::Added(object)) = second.try_next().unwrap() {
        seen.push(object.name().to_string());
    }
    assert_eq!(seen, ["a", "b"]);
    put(&kind, "c", "", 3);
    put(&kind, "d", "", 4);
    let (one, other) = (first.try_written(100, names).unwrap(), second.try_written(100, names).unwrap());
    assert_eq!((&one[..], one.as_ptr()), (&b"c d "[..], other.as_ptr()));
    assert_eq!(late.try_written(4, names).unwrap(), "b c ", "up to the size asked for");
    assert_eq!(late.try_written(4, names).unwrap(), "d ");
    assert!(late.try_written(4, names).is_none());
    assert!(picky.try_written(100, names).is_none(), "who wants some is served alone");
    assert!(future.try_written(100, names).is_none(), "who must skip some is served alone");
    assert!(matches!(future.try_next().unwrap(), Some(WatchEvent::Added(object)) if object.name() == "d"));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_watchers_is_woken_in_rounds() {
    let caches = Caches::new();
    let kind = caches.register(&POD, strategies::for_row(&POD)).unwrap();
    let everything = || Filter { fields: FieldSelector::default(), ..on_node("") };
    let crowd: Vec<_> = (0..2000).map(|_| kind.watch(everything(), Start::Now).unwrap()).collect();
    let begun = tokio::time::Instant::now();
    let watched = async {
        let mut at = Vec::new();
        let mut watcher = kind.watch(everything(), Start::Now).unwrap();
        for name in ["a", "b"] {
            put(&kind, name, "", 1 + at.len() as u64);
            watcher.changed().await;
            assert!(watcher.try_next().unwrap().is_some());
            at.push(begun.elapsed().as_millis());
            // Lets the announcer see each by itself.
            tokio::task::yield_now().await;
        }
        at
    };
    // Looks only when it is woken: that is what takes turns.
    let woken = async {
        let topic = crowd[0].topic.clone();
        let mut at = Vec::new();
        for _ in 0..2 {
            topic.changed.notified().await;
            at.push(begun.elapsed().as_millis());
        }
        at
    };
    let both = async { futures::join!(woken, watched) };
    let (woken, watched) = tokio::select! {
        biased;
        () = caches.announce() => unreachable!("never ends"),
        both = both => both,
    };
    assert_eq!(watched, [0, 0], "what is there is read at once");
    assert_eq!(woken[0], 0, "a first change is told at once");
    assert!((20..=26).contains(&woken[1]), "{woken:?}");
}

#[test]
fn only_what_is_asked_for_is_read() {
    let bytes = serde_json::to_vec(&pod("a", "n1")).unwrap();
    assert_eq!(
        pick(&bytes, &["spec.nodeName", "status.phase"]),
        json!({ "spec": { "nodeName": "n1" }, "status": { "phase": "Pending" } })
    );
    assert_eq!(pick(&bytes, &["kind"]), json!({ "kind": "Pod" }));
    assert_eq!(
        pick(&bytes, &["kind.x", "metadata.name.y"]),
        json!({ "kind": null, "metadata": { "name": null } })
    );
    assert_eq!(
        pick(
            br#"{"a":[1],"b":null,"c":1,"d":true,"e":1.5,"f":-1}"#,
            &["a.x", "b.x", "c.x", "d.x", "e.x", "f.x"]
        ),
        json!({ "a": null, "b": null, "c": null, "d": null, "e": null, "f": null })
    );
    assert!(pick(b"[", &["a"]).is_null());
}

/// A decoded pod takes several times the memory of its bytes, which are all that the bounds of a ring count.
#[test]
fn history_does_not_keep_what_readers_made_of_its_objects() {
    let caches = Caches::new();
    let kind = caches.register(&POD, strategies::for_row(&POD)).unwrap();
    let everything = Filter { fields: FieldSelector::default(), ..on_node("") };
    let mut watcher = kind.watch(everything, Start::Now).unwrap();
    let mut revision = 0;
    let mut change = |name: usize, present: bool| {
        revision += 1;
        let name = format!("pod-{name}");
        if present {
            put(&kind, &name, "n1", revision);
        } else {
            let key = bytes::Bytes::from(POD.storage_key(Some("default"), &name).unwrap());
            kind.apply(&Event { key, new: None, old: None, revision });
        }
        while let Some(event) = watcher.try_next().unwrap() {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object)) =
                event
            else {
                continue;
            };
            object.typed::<k8s_openapi::api::core::v1::Pod>().unwrap();
        }
    };
    (0..4000).for_each(|n| change(n % 2000, true));
    (0..1900).for_each(|n| change(n, false));
    let kept = || {
        let mut changes = VecDeque::new();
        watcher.topic.read(0, usize::MAX, &mut changes).unwrap();
        assert_eq!(changes.len(), 5900);
        let old = |change: &&Arc<Change>| change.old.as_ref().is_some_and(|old| old.object.has_typed());
        let gone = |change: &&Arc<Change>| matches!(change.event(), Some(WatchEvent::Deleted(object)) if object.has_typed());
        (changes.iter().filter(old).count(), changes.iter().filter(gone).count())
    };
    assert_eq!(kept(), (1024, 1024), "of 5900 changes");
    caches.sweep();
    assert_eq!(kept(), (0, 0));
    let current = kind.get(&POD.storage_key(Some("default"), "pod-1950").unwrap()).unwrap();
    assert!(current.object.has_typed(), "what is current stays decoded");
}

#[test]
fn watchers_that_begin_alike_share_what_they_begin_with() {
    let caches = Caches::new();
    let kind = caches.register(&POD, strategies::for_row(&POD)).unwrap();
    for n in 0..50 {
        put(&kind, &format!("p{n:02}"), "a", n + 2);
    }
    let start = |namespace: Option<&str>| {
        let filter =
            Filter { namespace: namespace.map(Into::into), ..Filter::everything(kind.selectable().clone()) };
        kind.watch(filter, Start::Present).unwrap()
    };
    let held = |watcher: &crate::cache::Watcher| watcher.initial.objects.as_ref().map(Arc::as_ptr);
    let (one, mut two, confined) = (start(None), start(None), start(Some("default")));
    assert_eq!(held(&one), held(&two), "two that begin alike");
    assert_ne!(held(&one), held(&confined), "another namespace has other objects");
    put(&kind, "p00", "b", 90);
    let later = start(None);
    assert_ne!(held(&one), held(&later), "there has been a change");
    let names: Vec<_> = std::iter::from_fn(|| two.next_initial()).map(|one| one.name().to_string()).collect();
    assert_eq!(names, (0..50).map(|n| format!("p{n:02}")).collect::<Vec<_>>());
    assert!(two.initial.objects.is_none(), "what has been read is let go");
    assert_eq!(later.initial.objects.as_ref().unwrap()[0].resource_version(), 90);
    assert_eq!(one.initial.objects.as_ref().unwrap()[0].resource_version(), 2);
}
