//! Tests of who is evicted for whom.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::place::{Found, NotFound, place};
use crate::testing::{add_node, bound, default_profile, info, node, pod, requests};

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

fn found(cache: &mut Cache, incoming: &Arc<PodInfo>) -> Result<Found, NotFound> {
    place(&default_profile(), cache, incoming, &mut 0, |_| 1)
}

/// Why no node will do.
fn unfit(cache: &mut Cache, incoming: &Arc<PodInfo>) -> Diagnosis {
    match found(cache, incoming) {
        Err(NotFound::Unfit(unfit)) => unfit.1,
        Err(NotFound::Error(status)) => panic!("{status:?}"),
        Ok(_) => panic!("it should not fit"),
    }
}

/// Node and victims, or why there are none. The pod is promised the node.
fn evicted(cache: &mut Cache, incoming: Value) -> Result<(String, Vec<String>), Useless> {
    let incoming = info(incoming);
    let diagnosis = unfit(cache, &incoming);
    let eviction = preempt(&default_profile(), cache, &incoming, &diagnosis)?;
    cache.nominate(&incoming, &eviction.node);
    Ok((eviction.node, eviction.victims.iter().map(|victim| victim.key.1.clone()).collect()))
}

#[test]
fn upstream_s_words() {
    let mut diagnosis = Diagnosis::new(3);
    diagnosis.reject(7, Default::default(), &Status::unschedulable("Insufficient cpu"));
    for node in [8, 9] {
        diagnosis.reject(node, Default::default(), &Status::unresolvable("node(s) were unschedulable"));
    }
    assert_eq!(
        Useless::NoVictims.text(&diagnosis),
        "0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    );
    assert_eq!(Useless::Never.text(&diagnosis), "not eligible due to preemptionPolicy=Never.");
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
    assert_eq!(evicted(&mut cache, asks("r", "5", 500)), Err(Useless::NoVictims), "more than a node has");
    assert_eq!(evicted(&mut cache, asks("s", "1", 0)), Err(Useless::NoVictims), "nobody is less important");
    let mut polite = asks("t", "2", 50);
    polite["spec"]["preemptionPolicy"] = json!("Never");
    assert_eq!(evicted(&mut cache, polite), Err(Useless::Never));
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
    assert_eq!(evicted(&mut cache, incoming.clone()), Err(Useless::Waits));
    cache.remove(&("ns".to_string(), "low".to_string()));
    assert!(found(&mut cache, &info(asks("thief", "2", 10))).is_err());
    assert!(found(&mut cache, &info(asks("boss", "2", 60))).is_ok(), "more important");
    assert_eq!(found(&mut cache, &info(incoming)).ok().map(|found| found.node), cache.index("n0"));
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
    /// Without its victims the node takes the pod; with any one of them put back it does not; and the books
    /// are as before.
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
        let profile = default_profile();
        let diagnosis = unfit(&mut cache, &incoming);
        let eviction = preempt(&profile, &mut cache, &incoming, &diagnosis);
        prop_assert_eq!(&cache.nodes[0].requested, &before);
        let Ok(eviction) = eviction else {
            for pod in cache.evictable(0, 3) {
                cache.remove(&pod.key);
            }
            prop_assert!(!place::fits(&profile, &mut cache, &incoming, 0));
            return Ok(());
        };
        prop_assert!(eviction.victims.iter().all(|victim| victim.priority < 3));
        for victim in &eviction.victims {
            cache.remove(&victim.key);
        }
        prop_assert!(place::fits(&profile, &mut cache, &incoming, 0));
        for victim in &eviction.victims {
            cache.restore(victim.clone(), 0);
            prop_assert!(!place::fits(&profile, &mut cache, &incoming, 0), "{} could stay", victim.key.1);
            cache.remove(&victim.key);
        }
    }
}

#[test]
fn a_promised_pod_counts_for_every_filter() {
    let mut cache = cluster(1);
    let mut promised = asks("p", "1", 50);
    promised["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    let mut thief = promised.clone();
    thief["metadata"]["name"] = json!("thief");
    thief["metadata"]["uid"] = json!("thief");
    cache.nominate(&info(promised), "n0");
    let told = unfit(&mut cache, &info(thief)).message();
    assert!(told.contains("1 node(s) didn't have free ports for the requested pod ports"), "{told}");
    assert!(cache.nodes[0].ports.is_empty() && cache.nodes[0].pods.is_empty(), "it is not there yet");
}
