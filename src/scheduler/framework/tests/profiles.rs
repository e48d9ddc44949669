//! Tests of profiles: which plugins a pod passes, and which configurations are refused.

use super::*;

type Change<'c> = &'c dyn Fn(&mut Config);

#[tokio::test(start_paused = true)]
async fn pods_pass_the_plugins_of_the_profile_they_name() {
    let plugin = Arc::new(Scripted::new("Probe"));
    let mut config = Config::default();
    let scripted = plugin.clone();
    config.add_plugin("Probe", move |_| scripted.clone());
    let mut second = ProfileConfig { scheduler_name: "second".to_string(), ..ProfileConfig::default() };
    second.plugins.push(("Probe".to_string(), 1));
    config.profiles.push(second);
    let world = World::with(&config);
    world.cluster.add_node(node("n1", "z"));
    world.cluster.add_pod(pod("nobody", json!({"schedulerName": "third"})));
    world.cluster.add_pod(pod("first", json!({})));
    world.cluster.until_bound("first").await;
    assert!(plugin.called().is_empty());
    world.cluster.add_pod(pod("second", json!({"schedulerName": "second"})));
    world.cluster.until_bound("second").await;
    assert_eq!(plugin.count("Reserve"), 1);
    let event = world.cluster.until_event("Scheduled", "Successfully assigned ns/second to n1").await;
    assert_eq!(
        (&event["source"]["component"], &event["reportingComponent"]),
        (&json!("second"), &json!("second"))
    );
    assert!(world.cluster.pod("nobody")["spec"]["nodeName"].is_null());
    world.end().await;
}

#[test]
fn profiles_that_cannot_be() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        let api: Arc<dyn ObjectApi> = Arc::new(Cluster::default());
        let stage = Supervisor::new().stage("test");
        Profiles::new(&config, &api, &Arc::default(), &Arc::default(), &stage)
            .err()
            .map(|error| error.to_string())
    };
    let plugins = |change: fn(&mut Vec<(String, i64)>)| {
        move |config: &mut Config| change(&mut config.profiles[0].plugins)
    };
    assert_eq!(refused(&|_| {}), None);
    let cases: [(Change<'_>, &str); 6] = [
        (&|config| config.profiles.clear(), "no profiles are configured"),
        (
            &|config| config.profiles.push(ProfileConfig::default()),
            "duplicate profile with scheduler name \"default-scheduler\"",
        ),
        (
            &plugins(|plugins| plugins.push(("Nonsense".into(), 1))),
            "profile \"default-scheduler\" names the plugin \"Nonsense\", which does not exist",
        ),
        (
            &plugins(|plugins| plugins.push(("NodeName".into(), 1))),
            "profile \"default-scheduler\" names the plugin \"NodeName\" twice",
        ),
        (
            &plugins(|plugins| plugins.retain(|(name, _)| name != "DefaultBinder")),
            "at least one bind plugin is needed for profile with scheduler name \"default-scheduler\"",
        ),
        (
            &plugins(|plugins| plugins.iter_mut().for_each(|(_, weight)| *weight = 0)),
            "score plugin \"TaintToleration\" of profile \"default-scheduler\" needs a weight above zero",
        ),
    ];
    for (change, text) in cases {
        assert_eq!(refused(change).as_deref(), Some(text));
    }
}
