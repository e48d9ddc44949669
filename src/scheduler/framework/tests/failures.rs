//! A plugin fails at each extension point that can fail: what is undone, what is told, and what brings the
//! pod back.

use api::ApiError;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_failed_reserve_is_undone_and_tried_again() {
    let first = Arc::new(Scripted::new("First"));
    let error = Status::error("the disk is on fire");
    let second = Arc::new(Scripted::new("Second").answers("Reserve", error));
    let world = World::start(&[&first, &second]);
    world.cluster.add_node(node("n1", "z"));
    let began = Instant::now();
    world.cluster.add_pod(large("a"));
    let told = "running Reserve plugin \"Second\": the disk is on fire";
    assert_eq!(world.cluster.until_told("a", told).await, "SchedulerError");
    let event = world.cluster.until_event("FailedScheduling", told).await;
    assert_eq!((&event["type"], &event["action"]), (&json!("Warning"), &json!("Scheduling")));
    assert_eq!(world.cluster.until_bound("a").await, "n1");
    assert!(began.elapsed() >= Duration::from_secs(1), "after its back-off");
    for plugin in [&first, &second] {
        assert_eq!((plugin.count("Reserve"), plugin.count("Unreserve")), (2, 1));
    }
    assert_eq!(second.count("Permit"), 1, "only the second time");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_reserve_rejects_waits_for_what_its_plugin_registered() {
    let no = Status::unschedulable("no disk left");
    let plugin = Arc::new(Scripted::new("Probe").answers("Reserve", no));
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_pod(large("a"));
    let told = "0/1 nodes are available: 1 no disk left.";
    assert_eq!(world.cluster.until_told("a", told).await, "Unschedulable");
    assert_eq!(plugin.count("Unreserve"), 1);
    // The room that it had is free again.
    world.cluster.add_pod(large("b"));
    assert_eq!(world.cluster.until_bound("b").await, "n1");
    world.cluster.remove_pod("b");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.cluster.pod("a")["spec"]["nodeName"].is_null(), "a pod that goes is no new node");
    world.cluster.add_node(node("n2", "z"));
    world.cluster.until_bound("a").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_pre_bind_gives_the_node_back() {
    let plugin = Arc::new(Scripted::new("Probe").answers("PreBind", Status::error("not attached")));
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    let began = Instant::now();
    world.cluster.add_pod(large("a"));
    let told = "running PreBind plugin \"Probe\": not attached";
    assert_eq!(world.cluster.until_told("a", told).await, "SchedulerError");
    let nominated = |pod: &Value| pod["status"]["nominatedNodeName"].clone();
    assert!(world.cluster.past("a").iter().any(|pod| nominated(pod) == "n1"), "while PreBind worked");
    assert!(nominated(&world.cluster.pod("a")).is_null(), "it is not promised any more");
    world.cluster.until_event("FailedScheduling", told).await;
    assert_eq!(world.cluster.until_bound("a").await, "n1");
    assert!(began.elapsed() >= Duration::from_secs(1), "after its back-off");
    let order: Vec<_> =
        plugin.called().into_iter().filter(|call| call.contains("eserve") || call.contains("Bind")).collect();
    let expected = ["Reserve a n1", "PreBind a n1", "Unreserve a n1", "Reserve a n1", "PreBind a n1"];
    assert_eq!(order[..5], expected);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_pre_bind_rejects_makes_room_for_others() {
    let no = Status::unresolvable("no driver on the node");
    let plugin = Arc::new(Scripted::new("Probe").answers("PreBind", no));
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_pod(large("a"));
    let told = "0/1 nodes are available: 1 no driver on the node.";
    assert_eq!(world.cluster.until_told("a", told).await, "Unschedulable");
    assert_eq!(plugin.count("Unreserve"), 1);
    world.cluster.add_pod(large("b"));
    assert_eq!(world.cluster.until_bound("b").await, "n1");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_binding_is_undone_and_tried_again() {
    let plugin = Arc::new(Scripted::new("Probe"));
    let world = World::start(&[&plugin]);
    world.cluster.binding_errors.lock().push(ApiError::unavailable("try later"));
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_pod(large("a"));
    let told = "running Bind plugin \"DefaultBinder\": try later";
    assert_eq!(world.cluster.until_told("a", told).await, "SchedulerError");
    assert_eq!(world.cluster.until_bound("a").await, "n1");
    assert_eq!((plugin.count("Unreserve"), plugin.count("Reserve")), (1, 2));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn filters_that_fail_are_not_rejections() {
    let plugin = Arc::new(
        Scripted::new("Probe")
            .answers("PreFilter", Status::error("no index"))
            .answers("Filter", Status::error("no data")),
    );
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_pod(large("a"));
    let told = "running PreFilter plugin \"Probe\": no index";
    assert_eq!(world.cluster.until_told("a", told).await, "SchedulerError");
    let told = "running \"Probe\" filter plugin: no data";
    assert_eq!(world.cluster.until_told("a", told).await, "SchedulerError");
    world.cluster.until_bound("a").await;
    assert_eq!(plugin.count("PostFilter"), 0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn pre_filter_rejects_for_all_nodes_and_post_filter_has_its_say() {
    let no = Status::unschedulable("quota of disks is used up");
    let plugin = Arc::new(Scripted::new("Probe").answers("PreFilter", no));
    let mut config = Config::default();
    let scripted = plugin.clone();
    config.add_plugin("Probe", move |_| scripted.clone());
    // Before preemption, which would say that it does not help.
    config.profiles[0].plugins.insert(0, ("Probe".to_string(), 1));
    config.profiles[0].plugins.retain(|(name, _)| name != "DefaultPreemption");
    let world = World::with(&config);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_pod(large("a"));
    let told = "0/1 nodes are available: quota of disks is used up. tried 1 nodes.";
    assert_eq!(world.cluster.until_told("a", told).await, "Unschedulable");
    assert_eq!(plugin.count("PostFilter"), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn scores_that_fail_are_errors() {
    let plugin = Arc::new(Scripted::new("Probe").answers("Score", Status::error("no figures")));
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_node(node("n2", "z"));
    world.cluster.add_pod(large("a"));
    let told = "running Score plugins: plugin \"Probe\" failed with: no figures";
    assert_eq!(world.cluster.until_told("a", told).await, "SchedulerError");
    world.cluster.until_bound("a").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn scores_out_of_range_are_errors() {
    let plugin = Arc::new(Scripted { wild: true, ..Scripted::new("Probe") });
    let world = World::start(&[&plugin]);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_node(node("n2", "z"));
    world.cluster.add_pod(large("a"));
    let told = "applying score defaultWeights on Score plugins: plugin \"Probe\" returns an invalid score 5000, it \
                should in the range of [0, 100] after normalizing";
    assert_eq!(world.cluster.until_told("a", told).await, "SchedulerError");
    world.end().await;
}
