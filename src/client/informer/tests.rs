//! Tests of the informer against a scripted API: no change may be missed, whatever the watch does.

use std::collections::VecDeque;
use std::sync::Arc;

use api::{
    ApiError, CreateOptions, DeleteOptions, KindRow, ListOptions, Object, Patch, UpdateOptions, WatchEvent,
    WatchOptions,
};
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::listener::{Listener, MOST_WAITING};
use super::{Change, Informers};
use crate::{BoxFuture, EventStream, ObjectApi, ObjectList, ObjectRef};

/// Answers lists and watches from a script; other calls are not offered.
#[derive(Default)]
struct Script {
    lists: Mutex<VecDeque<Result<ObjectList, ApiError>>>,
    watches: Mutex<VecDeque<Vec<WatchEvent>>>,
    watched_from: Mutex<Vec<Option<String>>>,
}

fn refused<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, ApiError>> {
    Box::pin(async { Err(ApiError::bad_request("not part of the script")) })
}

impl ObjectApi for Script {
    fn get<'a>(&'a self, _: &'a KindRow, _: ObjectRef<'a>) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        refused()
    }

    fn list<'a>(
        &'a self,
        _: &'a KindRow,
        _: Option<&'a str>,
        _: &'a ListOptions,
    ) -> BoxFuture<'a, Result<ObjectList, ApiError>> {
        let next = self.lists.lock().pop_front();
        Box::pin(async move {
            match next {
                Some(list) => list,
                None => std::future::pending().await,
            }
        })
    }

    fn watch<'a>(
        &'a self,
        _: &'a KindRow,
        _: Option<&'a str>,
        options: &'a WatchOptions,
    ) -> BoxFuture<'a, Result<EventStream, ApiError>> {
        self.watched_from.lock().push(options.resource_version.clone());
        let next = self.watches.lock().pop_front();
        Box::pin(async move {
            let stream: EventStream = match next {
                Some(events) => Box::pin(futures::stream::iter(events)),
                None => Box::pin(futures::stream::pending()),
            };
            Ok(stream)
        })
    }

    fn create<'a>(
        &'a self,
        _: &'a KindRow,
        _: Option<&'a str>,
        _: Value,
        _: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        refused()
    }

    fn create_sub<'a>(
        &'a self,
        _: &'a KindRow,
        _: ObjectRef<'a>,
        _: Value,
        _: &'a CreateOptions,
    ) -> BoxFuture<'a, Result<Value, ApiError>> {
        refused()
    }

    fn update<'a>(
        &'a self,
        _: &'a KindRow,
        _: ObjectRef<'a>,
        _: Value,
        _: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        refused()
    }

    fn patch<'a>(
        &'a self,
        _: &'a KindRow,
        _: ObjectRef<'a>,
        _: Patch,
        _: &'a UpdateOptions,
    ) -> BoxFuture<'a, Result<Arc<Object>, ApiError>> {
        refused()
    }

    fn delete<'a>(
        &'a self,
        _: &'a KindRow,
        _: ObjectRef<'a>,
        _: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<Option<Arc<Object>>, ApiError>> {
        refused()
    }

    fn delete_collection<'a>(
        &'a self,
        _: &'a KindRow,
        _: Option<&'a str>,
        _: &'a ListOptions,
        _: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        refused()
    }
}

fn object(name: &str, version: u64) -> Arc<Object> {
    let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n"}});
    Arc::new(Object::from_tree(tree, version).unwrap())
}

fn list(names: &[(&str, u64)], resource_version: u64) -> Result<ObjectList, ApiError> {
    let items = names.iter().map(|(name, version)| object(name, *version)).collect();
    Ok(ObjectList { items, resource_version, ..ObjectList::default() })
}

fn describe(change: &Change<ConfigMap>) -> String {
    let name = change.latest().metadata.name.clone().unwrap_or_default();
    match (&change.old, &change.new) {
        (None, _) => format!("+{name}"),
        (_, None) => format!("-{name}"),
        _ => format!("~{name}"),
    }
}

async fn run(script: Script, expected: &[&str]) -> Arc<Script> {
    let script = Arc::new(script);
    let supervisor = supervisor::Supervisor::new();
    let informers = Informers::new(script.clone(), supervisor.stage("test"));
    let informer = informers.of::<ConfigMap>();
    let (sender, mut changes) = mpsc::unbounded_channel();
    informer.on_change(move |change| {
        let _ = sender.send(describe(change));
    });
    for wanted in expected {
        assert_eq!(changes.recv().await.as_deref(), Some(*wanted));
    }
    let synced = tokio::time::timeout(std::time::Duration::from_secs(1), informer.synced());
    synced.await.expect("it has synced");
    supervisor.shutdown(std::time::Duration::from_secs(1)).await;
    assert!(changes.try_recv().is_err(), "nothing beyond the expected changes");
    script
}

#[tokio::test(start_paused = true)]
async fn a_list_then_its_watch() {
    let script = Script::default();
    script.lists.lock().push_back(list(&[("a", 1), ("b", 2)], 2));
    script.watches.lock().push_back(vec![
        WatchEvent::Modified(object("a", 3)),
        WatchEvent::Deleted(object("b", 4)),
        WatchEvent::Bookmark { resource_version: 9, initial_events_end: false },
    ]);
    script.watches.lock().push_back(vec![WatchEvent::Added(object("c", 10))]);
    let script = run(script, &["+a", "+b", "~a", "-b", "+c"]).await;
    let from: Vec<_> = script.watched_from.lock().iter().flatten().cloned().collect();
    assert_eq!(from[..3], ["2", "9", "10"], "each watch goes on from the last event or bookmark");
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_delivers_the_difference_of_the_new_list() {
    let script = Script::default();
    script.lists.lock().push_back(list(&[("a", 1), ("b", 2), ("c", 3)], 3));
    script.watches.lock().push_back(vec![WatchEvent::Error(ApiError::expired("too old resource version"))]);
    script.lists.lock().push_back(list(&[("b", 2), ("c", 7), ("d", 8)], 8));
    run(script, &["+a", "+b", "+c", "-a", "~c", "+d"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_list_is_tried_again() {
    let script = Script::default();
    script.lists.lock().push_back(Err(ApiError::unavailable("starting")));
    script.lists.lock().push_back(Err(ApiError::unavailable("starting")));
    script.lists.lock().push_back(list(&[("a", 1)], 1));
    run(script, &["+a"]).await;
}

/// Lists are answered while watches are refused: that is no success that would shorten the wait.
#[tokio::test(start_paused = true)]
async fn refused_watches_are_tried_less_and_less() {
    const LISTS: usize = 60;
    let script = Arc::new(Script::default());
    for _ in 0..LISTS {
        script.lists.lock().push_back(list(&[("a", 1)], 1));
        let refusal = ApiError::too_many_requests("Too many requests", 1);
        script.watches.lock().push_back(vec![WatchEvent::Error(refusal)]);
    }
    let supervisor = supervisor::Supervisor::new();
    let informers = Informers::new(script.clone(), supervisor.stage("test"));
    let informer = informers.of::<ConfigMap>();
    informer.synced().await;
    // By the clock of the test, which nothing else moves.
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let tried = LISTS - script.lists.lock().len();
    assert!((3..=12).contains(&tried), "{tried} times in 30 s");
    supervisor.shutdown(std::time::Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_handler_sees_what_is_already_there() {
    let script = Script::default();
    script.lists.lock().push_back(list(&[("a", 1)], 1));
    let supervisor = supervisor::Supervisor::new();
    let informers = Informers::new(Arc::new(script), supervisor.stage("test"));
    let early = informers.of::<ConfigMap>();
    early.synced().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    informers.of::<ConfigMap>().on_change(move |change| sink.lock().push(describe(change)));
    assert_eq!(*seen.lock(), ["+a"]);
    supervisor.shutdown(std::time::Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_informer_runs_as_long_as_somebody_holds_it() {
    let script = Script::default();
    script.lists.lock().push_back(list(&[("a", 1), ("b", 2)], 2));
    script.lists.lock().push_back(list(&[("c", 3)], 3));
    let supervisor = supervisor::Supervisor::new();
    let stage = supervisor.stage("test");
    let informers = Informers::new(Arc::new(script), stage.clone());
    let informer = informers.of::<ConfigMap>();
    informer.synced().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let subscription = informer.subscribe(move |change| {
        let sign = if change.new.is_some() { "+" } else { "-" };
        sink.lock().push(format!("{sign}{}", change.latest().name()));
    });
    drop(informer);
    assert_eq!(informers.running(), 1, "the subscription holds it");
    subscription.end_of_kind();
    assert_eq!(*seen.lock(), ["+a", "+b", "-a", "-b"], "a kind takes its objects with it");
    assert_eq!(informers.running(), 0);
    let again = informers.of::<ConfigMap>();
    again.synced().await;
    let names: Vec<String> = again.objects(None).iter().map(|object| object.name().to_string()).collect();
    assert_eq!(names, ["c"], "it begins anew");
    assert_eq!(Arc::strong_count(&seen), 1, "the handler is gone");
    again.on_object_change(|_| {});
    drop(again);
    assert_eq!(informers.running(), 1, "a handler for good holds it, too");
    supervisor.shutdown(std::time::Duration::from_secs(1)).await;
    assert_eq!(stage_tasks(&supervisor), 0);
}

/// A handler that stands still until it is told to go on.
struct Gate {
    open: Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>,
}

impl Gate {
    fn new() -> Self {
        Gate { open: Arc::default() }
    }

    fn wait(&self) -> impl Fn() + Send + 'static {
        let open = self.open.clone();
        move || {
            let (open, changed) = &*open;
            drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        }
    }

    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_stands_still_holds_up_no_other() {
    let script = Script::default();
    script.lists.lock().push_back(list(&[("a", 1)], 1));
    script.watches.lock().push_back(vec![
        WatchEvent::Modified(object("a", 2)),
        WatchEvent::Modified(object("a", 3)),
        WatchEvent::Deleted(object("a", 4)),
        WatchEvent::Added(object("b", 5)),
    ]);
    let supervisor = supervisor::Supervisor::new();
    let informers = Informers::new(Arc::new(script), supervisor.stage("test"));
    let informer = informers.of::<ConfigMap>();
    let gate = Gate::new();
    let (stand, late) = (gate.wait(), Arc::new(Mutex::new(Vec::new())));
    let sink = late.clone();
    informer.on_change(move |change| {
        // Not while the list is told: that is waited for.
        if describe(change) != "+a" {
            stand();
        }
        sink.lock().push(describe(change));
    });
    let (sender, mut changes) = mpsc::unbounded_channel();
    informer.on_change(move |change| {
        let _ = sender.send(describe(change));
    });
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("+b") {
        seen.push(changes.recv().await.unwrap());
    }
    assert_eq!(*late.lock(), ["+a"], "the other handler stands");
    gate.open();
    informer.raw.delivered().await;
    let late = late.lock().clone();
    assert_eq!((&late[0][..], &late[late.len() - 2..]), ("+a", &["-a".to_string(), "+b".to_string()][..]));
    supervisor.shutdown(std::time::Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn changes_of_one_object_wait_as_one_but_none_is_lost() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let handler = move |change: &Change<Object>| {
        let version = |object: &Option<Arc<Object>>| object.as_ref().map(|object| object.resource_version());
        sink.lock().push((version(&change.old), version(&change.new)));
    };
    let stop = supervisor::CancellationToken::new();
    let listener = Listener::new(Box::new(handler), stop);
    let (a, b, c) = (object("a", 1), object("a", 2), object("a", 3));
    let change = |old: Option<&Arc<Object>>, new: Option<&Arc<Object>>| Change {
        old: old.cloned(),
        new: new.cloned(),
    };
    listener.push(change(None, Some(&a)));
    listener.push(change(Some(&a), Some(&b)));
    listener.push(change(Some(&b), Some(&c)));
    listener.push(change(Some(&c), None));
    let mut last = object("x", 4);
    for version in 5..100_000 {
        let next = object("x", version);
        listener.push(change(Some(&last), Some(&next)));
        last = next;
    }
    assert!(!listener.is_full());
    listener.end_with(std::iter::empty());
    let expected = [(None, Some(3)), (Some(3), None), (Some(4), Some(99_999))];
    assert_eq!(*seen.lock(), expected, "a creation, a deletion, and what became of the other");
}

#[tokio::test(start_paused = true)]
async fn an_informer_waits_for_a_handler_that_is_far_behind() {
    let listener = Listener::new(Box::new(|_| {}), supervisor::CancellationToken::new());
    for at in 0..=MOST_WAITING {
        listener.push(Change { old: None, new: Some(object(&format!("o{at}"), 1)) });
    }
    assert!(listener.is_full());
    let (waiting, running) = (listener.clone(), listener.clone());
    tokio::select! {
        () = waiting.room() => {}
        () = running.run() => {}
    }
    assert!(!listener.is_full());
}

fn stage_tasks(supervisor: &supervisor::Supervisor) -> usize {
    supervisor.report().iter().map(|stage| stage.tasks.len()).sum()
}
