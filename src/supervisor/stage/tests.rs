//! Tests of stop order, failure reports and panics, under tokio's paused clock.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{OnExit, Supervisor, Tasks};

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn stages_stop_newest_first_and_each_is_joined() {
    let supervisor = Supervisor::new();
    let order = Arc::new(Mutex::new(Vec::new()));
    for name in ["store", "api", "node"] {
        let stage = supervisor.stage(name);
        let (order, stopping) = (order.clone(), stage.stopping());
        stage.spawn("task", OnExit::Stop, async move {
            stopping.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            order.lock().push(name);
        });
    }
    supervisor.shutdown(GRACE).await;
    assert_eq!(*order.lock(), ["node", "api", "store"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_must_not_end_reports_its_end_once() {
    let supervisor = Supervisor::new();
    let stage = supervisor.stage("api");
    stage.spawn("one-off", OnExit::Done, async {});
    stage.spawn("server", OnExit::Stop, async { panic!("a bug") });
    assert_eq!(supervisor.failed().await, "task server of api ended unexpectedly");
    supervisor.shutdown(GRACE).await;
}

#[tokio::test(start_paused = true)]
async fn ending_while_stopping_is_no_failure() {
    let supervisor = Supervisor::new();
    let stage = supervisor.stage("api");
    stage.spawn_cancellable("loop", OnExit::Stop, std::future::pending());
    supervisor.shutdown(GRACE).await;
    let failed = tokio::time::timeout(GRACE, supervisor.failed()).await;
    assert!(failed.is_err(), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ignores_the_stop_does_not_hang_it() {
    let supervisor = Supervisor::new();
    supervisor.stage("stuck").spawn("task", OnExit::Done, std::future::pending());
    let start = tokio::time::Instant::now();
    supervisor.shutdown(GRACE).await;
    assert_eq!(start.elapsed(), GRACE);
}

/// A task that notes its name when it has been stopped.
fn note(stage: &super::Stage, name: &'static str, order: &Arc<Mutex<Vec<&'static str>>>) {
    let (order, stopping) = (order.clone(), stage.stopping());
    stage.spawn("task", OnExit::Stop, async move {
        stopping.cancelled().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        order.lock().push(name);
    });
}

#[tokio::test(start_paused = true)]
async fn children_stop_before_their_parent_and_newest_first() {
    let supervisor = Supervisor::new();
    let order = Arc::default();
    let parent = supervisor.stage("parent");
    note(&parent, "parent", &order);
    let first = parent.child("first");
    note(&first, "first", &order);
    note(&first.child("grandchild"), "grandchild", &order);
    note(&parent.child("second"), "second", &order);
    let names: Vec<String> = supervisor.report().into_iter().map(|stage| stage.name).collect();
    assert_eq!(names, ["parent", "first", "grandchild", "second"]);
    supervisor.shutdown(GRACE).await;
    assert_eq!(*order.lock(), ["second", "grandchild", "first", "parent"]);
    assert!(tokio::time::timeout(GRACE, supervisor.failed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_child_stops_alone_and_may_be_followed_by_another() {
    let supervisor = Supervisor::new();
    let order = Arc::default();
    let parent = supervisor.stage("parent");
    note(&parent, "parent", &order);
    for name in ["once", "again"] {
        let child = parent.child("child");
        note(&child, name, &order);
        assert_eq!(supervisor.report().len(), 2);
        assert!(child.stop(GRACE).await);
        assert_eq!(supervisor.report().len(), 1);
    }
    assert_eq!(*order.lock(), ["once", "again"]);
    assert!(!parent.stopping().is_cancelled());
    assert!(tokio::time::timeout(GRACE, supervisor.failed()).await.is_err(), "nothing has failed");
    supervisor.shutdown(GRACE).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_end_is_told() {
    let supervisor = Supervisor::new();
    let child = supervisor.stage("parent").child("child");
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    child.spawn("stubborn", OnExit::Done, async move {
        let _ = ended.await;
    });
    assert!(!child.stop(GRACE).await);
    drop(end);
    assert!(child.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_child_of_a_stage_that_stops_does_not_begin() {
    let supervisor = Supervisor::new();
    let parent = supervisor.stage("parent");
    supervisor.shutdown(GRACE).await;
    let child = parent.child("late");
    child.spawn_cancellable("loop", OnExit::Stop, std::future::pending());
    assert!(child.stop(GRACE).await);
}

#[tokio::test(start_paused = true)]
async fn a_latch_wakes_all_and_stays_open() {
    let latch = crate::Latch::new("caches");
    let waiting = (latch.clone(), latch.clone());
    let both = async { tokio::join!(waiting.0.wait(), waiting.1.wait()) };
    let opener = async { latch.open() };
    tokio::join!(both, opener);
    latch.wait().await;
    assert!(latch.is_open());
}

#[tokio::test]
async fn tasks_are_counted_by_name() {
    let supervisor = Supervisor::new();
    let stage = supervisor.stage("node");
    for _ in 0..2 {
        stage.spawn_cancellable("loop", OnExit::Done, std::future::pending());
    }
    stage.spawn("one-off", OnExit::Done, async {});
    stage.spawn("broken", OnExit::Done, async { panic!("a bug") });
    let wanted = |tasks: &Tasks, running, panicked| *tasks == Tasks { running, panicked };
    loop {
        let report = supervisor.report();
        let tasks = &report[0].tasks;
        if tasks.len() == 2 && wanted(&tasks["loop"], 2, 0) && wanted(&tasks["broken"], 0, 1) {
            break;
        }
        tokio::task::yield_now().await;
    }
    supervisor.shutdown(GRACE).await;
    assert!(supervisor.report().is_empty());
}
