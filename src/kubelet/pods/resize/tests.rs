//! What is granted, what a container needs, and in which order.

use serde_json::json;

use super::*;
use crate::testing::pod;

fn spec(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{
        "name": "a",
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}},
        "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}],
    }]})
}

fn record(pod: &Pod) -> ContainerRecord {
    let resources = pod.containers()[0].resources.clone();
    ContainerRecord { resources, ..ContainerRecord::for_tests("a", ContainerPhase::Running) }
}

#[test]
fn a_policy_says_whether_a_container_is_started_anew() {
    let has = record(&pod(spec("1", "64Mi")));
    let need_of = |cpu, memory| need(&pod(spec(cpu, memory)).containers()[0], &has);
    assert_eq!(need_of("1", "64Mi"), Need::Nothing);
    assert_eq!(need_of("1000m", "65536Ki"), Need::Nothing, "the same amount in other words");
    assert_eq!(need_of("2", "64Mi"), Need::Update);
    assert_eq!(need_of("1", "32Mi"), Need::Restart);
    assert_eq!(need_of("2", "32Mi"), Need::Restart);
    let unknown = ContainerRecord { resources: None, ..has };
    assert_eq!(need(&pod(spec("2", "64Mi")).containers()[0], &unknown), Need::Nothing);
}

#[test]
fn what_is_not_granted_stays_out_of_the_pod() {
    let (before, after) = (pod(spec("1", "64Mi")), pod(spec("2", "64Mi")));
    let grant = Grant::asked(&before);
    assert!(matches!(grant.applied(&before), Cow::Borrowed(_)));
    let granted = grant.applied(&after);
    assert_eq!(granted.containers()[0].resources, before.containers()[0].resources);
}

#[test]
fn a_grant_is_found_again_in_the_status() {
    let after = pod(spec("2", "64Mi"));
    let status = |state: Value| -> PodStatus {
        let resources =
            json!({"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}});
        serde_json::from_value(json!({"containerStatuses": [{
            "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state, "resources": resources,
        }]}))
        .unwrap()
    };
    let running = Grant::adopted(&after, &status(json!({"running": {}})));
    assert_eq!(
        running.applied(&after).containers()[0].resources,
        pod(spec("1", "64Mi")).containers()[0].resources
    );
    let ended = Grant::adopted(&after, &status(json!({"terminated": {"exitCode": 1}})));
    assert!(matches!(ended.applied(&after), Cow::Borrowed(_)), "it will be started with what is asked for");
}

#[test]
fn room_is_made_before_it_is_taken() {
    let one = |name: &str, from: i64, to: i64| Resize {
        id: name.into(),
        name: name.into(),
        from: Amounts { memory_limit: from, ..Amounts::default() },
        to: Amounts { memory_limit: to, ..Amounts::default() },
    };
    let order = in_order(vec![one("grows", 1, 9), one("shrinks", 9, 1), one("stays", 5, 5)]);
    let names: Vec<&str> = order.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["shrinks", "stays", "grows"]);
}

#[test]
fn events_tell_what_is_asked_for() {
    let text = message("Pod resize started", &pod(spec("1", "64Mi")), Some(2), "");
    assert_eq!(
        text,
        "Pod resize started: {\"containers\":[{\"name\":\"a\",\"resources\":{\"limits\":{\"cpu\":\"1\",\"memory\":\"64Mi\"},\
         \"requests\":{\"cpu\":\"1\",\"memory\":\"64Mi\"}}}],\"generation\":2}"
    );
}
