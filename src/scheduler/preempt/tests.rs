//! Tests of who is evicted for whom.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::{add_node, bound, info, node, pod, requests};

fn cluster(nodes: usize) -> Cache {
    let mut cache = Cache::default();
    for number in 0..nodes {
        add_node(&mut cache, node(&format!("n{number}"), "z"));
    }
    cache
}

fn asks(name: &str, cpu: &str, priority: i32) -> Value {
    let mut pod = pod(name, requests(cpu, "1Mi"));
    pod["spec"]["priority"] = json!(priority);
    pod
}

/// Node and victims, or what is told.
fn evicted(cache: &mut Cache, incoming: Value) -> Result<(String, Vec<String>), Preemption> {
    let incoming = info(incoming);
    let mut start = 0;
    let unfit = place::place(cache, &incoming, &mut start, |_| 1).expect_err("it should not fit");
    match preempt(cache, &incoming, &unfit) {
        (_, Some(eviction)) => {
            Ok((eviction.node, eviction.victims.iter().map(|victim| victim.key.1.clone()).collect()))
        }
        (outcome, None) => Err(outcome),
    }
}

#[test]
fn the_least_important_go_and_no_more_than_needed() {
    let mut cache = cluster(2);
    bound(&mut cache, asks("low", "2", 1), "n0");
    bound(&mut cache, asks("lower", "2", 0), "n0");
    bound(&mut cache, asks("high", "4", 100), "n1");
    assert_eq!(evicted(&mut cache, asks("p", "2", 50)), Ok(("n0".into(), vec!["lower".into()])));
    cache.end_nomination(&("ns".to_string(), "p".to_string()));
    assert_eq!(
        evicted(&mut cache, asks("q", "4", 50)),
        Ok(("n0".into(), vec!["low".into(), "lower".into()]))
    );
    assert_eq!(evicted(&mut cache, asks("r", "5", 500)), Err(Preemption::Useless), "more than a node has");
    assert_eq!(evicted(&mut cache, asks("s", "1", 0)), Err(Preemption::Useless), "nobody is less important");
    let mut polite = asks("t", "2", 50);
    polite["spec"]["preemptionPolicy"] = json!("Never");
    assert_eq!(evicted(&mut cache, polite), Err(Preemption::Never));
}

#[test]
fn the_node_with_the_least_important_victim_is_chosen() {
    let mut cache = cluster(3);
    for (number, priority) in [(0, 7), (1, 3), (2, 5)] {
        bound(&mut cache, asks(&format!("v{number}"), "4", priority), &format!("n{number}"));
    }
    assert_eq!(evicted(&mut cache, asks("p", "1", 50)), Ok(("n1".into(), vec!["v1".into()])));
}

#[test]
fn promised_room_is_not_given_away() {
    let mut cache = cluster(1);
    bound(&mut cache, asks("low", "4", 0), "n0");
    let incoming = asks("p", "3", 50);
    assert!(evicted(&mut cache, incoming.clone()).is_ok());
    let mut leaving = asks("low", "4", 0);
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    bound(&mut cache, leaving, "n0");
    assert_eq!(evicted(&mut cache, incoming.clone()), Err(Preemption::Waits));
    cache.remove(&("ns".to_string(), "low".to_string()));
    let mut start = 0;
    assert!(place::place(&mut cache, &info(asks("thief", "2", 10)), &mut start, |_| 1).is_err());
    assert!(
        place::place(&mut cache, &info(asks("boss", "2", 60)), &mut start, |_| 1).is_ok(),
        "more important"
    );
    assert_eq!(place::place(&mut cache, &info(incoming), &mut start, |_| 1).ok(), cache.index("n0"));
}

#[test]
fn anti_affinity_can_be_resolved_by_eviction() {
    let mut cache = cluster(1);
    bound(&mut cache, asks("low", "1", 0), "n0");
    let mut apart = asks("p", "1", 50);
    apart["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}},
    }]}});
    assert_eq!(evicted(&mut cache, apart), Ok(("n0".into(), vec!["low".into()])));
}

proptest! {
    /// Without its victims the node takes the pod; with any one of them put back it does not; and the books are as before.
    #[test]
    fn victims_are_enough_and_none_too_many(pods in proptest::collection::vec((1u32..40, 0i32..5), 1..12), wanted in 10u32..40) {
        let mut cache = cluster(1);
        let mut used = 0;
        for (number, (tenths, priority)) in pods.iter().enumerate() {
            if used + tenths > 40 {
                continue;
            }
            used += tenths;
            bound(&mut cache, asks(&format!("v{number}"), &format!("{}m", tenths * 100), *priority), "n0");
        }
        prop_assume!(used + wanted > 40);
        let before = cache.nodes[0].requested.clone();
        let incoming = info(asks("p", &format!("{}m", wanted * 100), 3));
        let mut start = 0;
        let unfit = place::place(&mut cache, &incoming, &mut start, |_| 1).expect_err("it does not fit");
        let (_, eviction) = preempt(&mut cache, &incoming, &unfit);
        prop_assert_eq!(&cache.nodes[0].requested, &before);
        let Some(eviction) = eviction else {
            for pod in cache.evictable(0, 3) {
                cache.remove(&pod.key);
            }
            prop_assert!(!place::fits(&mut cache, &incoming, 0));
            return Ok(());
        };
        prop_assert!(eviction.victims.iter().all(|victim| victim.priority < 3));
        for victim in &eviction.victims {
            cache.remove(&victim.key);
        }
        prop_assert!(place::fits(&mut cache, &incoming, 0));
        for victim in &eviction.victims {
            cache.restore(victim.clone(), 0);
            prop_assert!(!place::fits(&mut cache, &incoming, 0), "{} could stay", victim.key.1);
            cache.remove(&victim.key);
        }
    }
}
