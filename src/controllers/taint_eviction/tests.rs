//! Tests of when a pod has to go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;

use super::*;

fn taint(key: &str, added: i64) -> Taint {
    let added = Time(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(added));
    Taint { key: key.into(), effect: NO_EXECUTE.into(), value: None, time_added: Some(added) }
}

fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
    Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        toleration_seconds: seconds,
        ..Toleration::default()
    }
}

#[test]
fn the_shortest_toleration_counts() {
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1000);
    let at = |seconds| Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds));
    let taints = [taint("a", 900), taint("b", 950)];
    assert_eq!(due(&taints, &[], now), Some(now), "not tolerated: at once");
    assert_eq!(due(&taints, &[toleration("a", None)], now), Some(now), "one is not enough");
    let both = [toleration("a", None), toleration("b", None)];
    assert_eq!(due(&taints, &both, now), None);
    let timed = [toleration("a", Some(300)), toleration("b", Some(60))];
    assert_eq!(due(&taints, &timed, now), at(1010));
    assert_eq!(due(&taints, &[toleration("a", Some(-5)), toleration("b", None)], now), at(900));
    assert_eq!(due(&[], &[], now), None);
}
