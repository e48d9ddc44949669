//! Options, and which instance's log it is.

use serde_json::json;

use super::*;

#[test]
fn options_are_read() {
    let now = Timestamp::from_second(1000).unwrap();
    let options = parse("follow=true&tailLines=5&sinceSeconds=60&timestamps=true&limitBytes=7", now).unwrap();
    assert_eq!(
        (options.follow, options.timestamps, options.tail, options.limit),
        (true, true, Some(5), Some(7))
    );
    assert_eq!(options.since, Some(Timestamp::from_second(940).unwrap()));
    let time = parse("sinceTime=2026-01-01T00%3A00%3A00Z", now).unwrap().since.unwrap();
    assert_eq!(time.to_string(), "2026-01-01T00:00:00Z");
    assert!(
        parse("tailLines=-1", now).is_err()
            && parse("limitBytes=0", now).is_err()
            && parse("sinceTime=x", now).is_err()
    );
}

#[test]
fn the_instance_is_chosen_as_upstream_does() {
    let status = |state: serde_json::Value, last: serde_json::Value| -> PodStatus {
        let one = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "containerID": "containerd://now", "state": state, "lastState": last});
        serde_json::from_value(json!({"containerStatuses": [one]})).unwrap()
    };
    let ended = json!({"terminated": {"exitCode": 1, "containerID": "containerd://before"}});
    let running = status(json!({"running": {}}), ended.clone());
    assert_eq!(instance(&running, "p", "c", false).unwrap(), "now");
    assert_eq!(instance(&running, "p", "c", true).unwrap(), "before");
    let crashing = status(json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended);
    assert_eq!(instance(&crashing, "p", "c", false).unwrap(), "before");
    let fresh = status(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}));
    assert_eq!(
        instance(&fresh, "p", "c", false).unwrap_err().to_string(),
        "container \"c\" in pod \"p\" is waiting to start: ContainerCreating"
    );
    assert_eq!(
        instance(&fresh, "p", "c", true).unwrap_err().to_string(),
        "previous terminated container \"c\" in pod \"p\" not found"
    );
}
