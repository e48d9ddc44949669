//! Tests of placing, against small clusters and, for the counts by topology, against counting anew.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::{add_node, bound, default_profile, info, node, pod, requests};

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

fn cluster(zones: &[(&str, &str)]) -> Cache {
    let mut cache = Cache::default();
    for (name, zone) in zones {
        add_node(&mut cache, node(name, zone));
    }
    cache
}

/// The node, or why not.
fn placed(cache: &mut Cache, pod: Value) -> Result<String, String> {
    let mut start = 0;
    match place(&default_profile(), cache, &info(pod), &mut start, |_| 1) {
        Ok(found) => Ok(cache.nodes[found.node as usize].name.clone()),
        Err(NotFound::Unfit(unfit)) => {
            let message = unfit.1.message();
            let (_, reasons) = message.split_once(": ").unwrap();
            Err(reasons.trim_end_matches('.').to_string())
        }
        Err(NotFound::Error(status)) => panic!("{status:?}"),
    }
}

fn spread(key: &str, skew: i32) -> Value {
    json!({"topologySpreadConstraints": [{
        "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }]})
}

fn terms(kind: &str, key: &str, app: &str) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": key, "labelSelector": {"matchLabels": {"app": app}},
    }]}}})
}

#[test]
fn the_emptier_node_wins_and_a_full_one_is_told() {
    let mut cache = cluster(&[("a", "z"), ("b", "z")]);
    bound(&mut cache, pod("first", requests("3", "1Gi")), "a");
    assert_eq!(placed(&mut cache, pod("p", requests("500m", "1Gi"))).as_deref(), Ok("b"));
    bound(&mut cache, pod("second", requests("3", "1Gi")), "b");
    assert_eq!(placed(&mut cache, pod("p", requests("2", "1Gi"))), Err("2 Insufficient cpu".into()));
    let gone = ("ns".to_string(), "second".to_string());
    cache.remove(&gone);
    assert_eq!(placed(&mut cache, pod("p", requests("2", "1Gi"))).as_deref(), Ok("b"));
}

#[test]
fn nodes_that_are_not_wished_for() {
    let mut cache = cluster(&[("a", "z1")]);
    let mut tainted = node("b", "z2");
    tainted["spec"]["taints"] = json!([{"key": "gpu", "effect": "NoSchedule"}]);
    add_node(&mut cache, tainted.clone());
    let mut cordoned = node("c", "z3");
    cordoned["spec"]["unschedulable"] = json!(true);
    add_node(&mut cache, cordoned);
    let in_b = json!({"nodeSelector": {ZONE: "z2"}});
    assert!(
        placed(&mut cache, pod("p", in_b.clone()))
            .unwrap_err()
            .contains("1 node(s) had untolerated taint(s)")
    );
    let mut tolerant = in_b;
    tolerant["tolerations"] = json!([{"operator": "Exists"}]);
    assert_eq!(placed(&mut cache, pod("p", tolerant)).as_deref(), Ok("b"));
    let nowhere =
        json!({"nodeSelector": {ZONE: "z9"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]});
    let told = placed(&mut cache, pod("p", nowhere)).unwrap_err();
    let reasons = "1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector";
    assert_eq!(told, reasons);
    // The answers kept for a signature follow the node.
    tainted["spec"]["taints"] = json!([]);
    add_node(&mut cache, tainted);
    assert_eq!(placed(&mut cache, pod("p", json!({"nodeSelector": {ZONE: "z2"}}))).as_deref(), Ok("b"));
}

#[test]
fn host_ports() {
    let mut cache = cluster(&[("a", "z"), ("b", "z")]);
    let with_port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    bound(&mut cache, pod("first", with_port.clone()), "a");
    assert_eq!(placed(&mut cache, pod("p", with_port.clone())).as_deref(), Ok("b"));
    bound(&mut cache, pod("second", with_port.clone()), "b");
    let told = placed(&mut cache, pod("p", with_port)).unwrap_err();
    assert_eq!(told, "2 node(s) didn't have free ports for the requested pod ports");
}

#[test]
fn spread_over_zones() {
    let mut cache = cluster(&[("a", "z1"), ("b", "z1"), ("c", "z2")]);
    bound(&mut cache, pod("first", json!({})), "a");
    assert_eq!(placed(&mut cache, pod("p", spread(ZONE, 1))).as_deref(), Ok("c"));
    bound(&mut cache, pod("second", json!({})), "c");
    assert!(placed(&mut cache, pod("p", spread(ZONE, 1))).is_ok());
    bound(&mut cache, pod("third", json!({})), "b");
    cache.remove_node("c");
    assert!(
        placed(&mut cache, pod("p", spread(ZONE, 1))).is_ok(),
        "an empty zone that is gone does not count"
    );
    let told = placed(&mut cache, pod("p", spread("rack", 1))).unwrap_err();
    assert_eq!(told, "2 node(s) didn't match pod topology spread constraints (missing required label)");
}

#[test]
fn spread_counts_only_nodes_the_pod_may_use_and_pods_that_stay() {
    let mut cache = cluster(&[("a", "z1"), ("b", "z2"), ("c", "z3")]);
    let mut constraint = spread(ZONE, 1);
    constraint["nodeSelector"] = json!({HOST: "a"});
    bound(&mut cache, pod("first", json!({})), "a");
    assert_eq!(placed(&mut cache, pod("p", constraint)).as_deref(), Ok("a"), "the only zone it can be in");
    let mut leaving = pod("second", json!({}));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    bound(&mut cache, leaving, "b");
    bound(&mut cache, pod("third", json!({})), "c");
    assert_eq!(placed(&mut cache, pod("p", spread(ZONE, 1))).as_deref(), Ok("b"));
}

#[test]
fn anti_affinity_counts_both_ways() {
    let mut cache = cluster(&[("a", "z1"), ("b", "z1"), ("c", "z2")]);
    bound(&mut cache, pod("first", json!({})), "a");
    let apart = terms("podAntiAffinity", ZONE, "web");
    assert_eq!(placed(&mut cache, pod("p", apart.clone())).as_deref(), Ok("c"));
    bound(&mut cache, pod("second", apart), "c");
    let mut plain = pod("p", json!({"nodeSelector": {HOST: "c"}}));
    let told = placed(&mut cache, plain.clone()).unwrap_err();
    assert!(told.contains("1 node(s) didn't satisfy existing pods anti-affinity rules"), "{told}");
    plain["metadata"]["labels"] = json!({"app": "other"});
    assert_eq!(placed(&mut cache, plain).as_deref(), Ok("c"));
}

#[test]
fn affinity_and_the_first_of_its_kind() {
    let mut cache = cluster(&[("a", "z1"), ("b", "z2")]);
    let together = terms("podAffinity", ZONE, "web");
    assert!(placed(&mut cache, pod("p", together.clone())).is_ok(), "it would match itself");
    let with_db = terms("podAffinity", ZONE, "db");
    let told = placed(&mut cache, pod("p", with_db)).unwrap_err();
    assert_eq!(told, "2 node(s) didn't match pod affinity rules");
    bound(&mut cache, pod("first", json!({})), "b");
    assert_eq!(placed(&mut cache, pod("p", together)).as_deref(), Ok("b"));
}

#[test]
fn terms_reach_other_namespaces_by_their_labels() {
    let mut cache = cluster(&[("a", "z1"), ("b", "z2")]);
    let mut apart = terms("podAntiAffinity", ZONE, "web");
    apart["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["namespaceSelector"] =
        json!({"matchLabels": {"team": "x"}});
    let mut other = pod("first", json!({}));
    other["metadata"]["namespace"] = json!("other");
    bound(&mut cache, other, "a");
    let free = |cache: &mut Cache| {
        placed(cache, pod("p", json!({"nodeSelector": {HOST: "a"}, "affinity": apart["affinity"]}))).is_ok()
    };
    assert!(free(&mut cache));
    cache.counters.namespace_changed("other", Some([("team".to_string(), "x".to_string())].into()));
    assert!(!free(&mut cache));
    cache.counters.namespace_changed("other", Some(Default::default()));
    assert!(free(&mut cache));
}

#[test]
fn preferences_draw() {
    let mut cache = cluster(&[("a", "z1"), ("b", "z2"), ("c", "z3")]);
    bound(&mut cache, pod("first", json!({})), "b");
    let term = json!({"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": "web"}}});
    let preferred = json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "podAffinityTerm": term},
    ]}}});
    assert_eq!(placed(&mut cache, pod("p", preferred)).as_deref(), Ok("b"));
    let node_affinity = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["z3"]}]}},
    ]}}});
    assert_eq!(placed(&mut cache, pod("p", node_affinity)).as_deref(), Ok("c"));
}

#[test]
fn soft_spread_prefers_the_emptier_domain() {
    let mut cache = cluster(&[("a", "z1"), ("b", "z2")]);
    bound(&mut cache, pod("first", requests("1m", "1Mi")), "a");
    bound(&mut cache, pod("heavy", requests("1", "2Gi")), "b");
    cache.remove(&("ns".to_string(), "heavy".to_string()));
    let mut other = pod("heavy", requests("1", "2Gi"));
    other["metadata"]["labels"] = json!({"app": "db"});
    bound(&mut cache, other, "b");
    let mut soft = spread(ZONE, 1);
    soft["topologySpreadConstraints"][0]["whenUnsatisfiable"] = json!("ScheduleAnyway");
    assert_eq!(placed(&mut cache, pod("p", soft)).as_deref(), Ok("b"));
    assert_eq!(placed(&mut cache, pod("p", json!({}))).as_deref(), Ok("a"), "without it the load decides");
}

#[test]
fn a_daemon_pod_looks_at_its_node_only() {
    let mut cache = cluster(&[("a", "z"), ("b", "z"), ("c", "z")]);
    let own = |name: &str| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]},
        ]}}}})
    };
    assert_eq!(placed(&mut cache, pod("p", own("b"))).as_deref(), Ok("b"));
    bound(&mut cache, pod("full", requests("4", "1Gi")), "b");
    let mut asks = pod("p", own("b"));
    asks["spec"]["containers"] = requests("1", "1Gi")["containers"].clone();
    let told = placed(&mut cache, asks).unwrap_err();
    assert_eq!(told, "1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]");
}

#[test]
fn not_every_node_of_a_large_cluster_is_looked_at() {
    assert_eq!(enough(3), 3);
    assert_eq!(enough(100), 100);
    assert_eq!(enough(500), 230);
    assert_eq!(enough(5000), 500);
    assert_eq!(enough(10_000), 500);
}

/// A small world that is also counted naively.
#[derive(Clone, Debug)]
enum Step {
    Bind { pod: u8, node: u8, app: bool, repels: bool },
    Remove(u8),
    Relabel { node: u8, zone: u8 },
    RemoveNode(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0u8..12, 0u8..5, any::<bool>(), any::<bool>())
            .prop_map(|(pod, node, app, repels)| Step::Bind { pod, node, app, repels }),
        2 => (0u8..12).prop_map(Step::Remove),
        2 => (0u8..5, 0u8..4).prop_map(|(node, zone)| Step::Relabel { node, zone }),
        1 => (0u8..5).prop_map(Step::RemoveNode),
    ]
}

proptest! {
    #[test]
    fn counts_are_those_of_counting_anew(steps in proptest::collection::vec(step(), 1..60)) {
        let mut cache = Cache::default();
        let mut zones: BTreeMap<u8, u8> = BTreeMap::new();
        let mut pods: BTreeMap<u8, (u8, bool, bool)> = BTreeMap::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Bind { pod: number, node, app, repels } => {
                    let more = if repels { terms("podAntiAffinity", ZONE, "web") } else { json!({}) };
                    let mut value = pod(&number.to_string(), more);
                    value["metadata"]["labels"] = json!({"app": if app { "web" } else { "db" }});
                    // A spec does not change: this is another pod of the same name.
                    value["metadata"]["uid"] = json!(at.to_string());
                    bound(&mut cache, value, &format!("n{node}"));
                    pods.insert(number, (node, app, repels));
                }
                Step::Remove(number) => {
                    cache.remove(&("ns".to_string(), number.to_string()));
                    pods.remove(&number);
                }
                Step::Relabel { node: number, zone } => {
                    add_node(&mut cache, node(&format!("n{number}"), &format!("z{zone}")));
                    zones.insert(number, zone);
                }
                Step::RemoveNode(number) => {
                    cache.remove_node(&format!("n{number}"));
                    zones.remove(&number);
                }
            }
            check(&mut cache, &zones, &pods)?;
        }
    }
}

/// Where an incoming pod with spread and anti-affinity may go, by counting all pods.
fn check(
    cache: &mut Cache,
    zones: &BTreeMap<u8, u8>,
    pods: &BTreeMap<u8, (u8, bool, bool)>,
) -> Result<(), TestCaseError> {
    let in_zone = |zone: u8, wanted: &dyn Fn(bool, bool) -> bool| {
        pods.values()
            .filter(|(node, app, repels)| zones.get(node) == Some(&zone) && wanted(*app, *repels))
            .count()
    };
    let present: BTreeSet<u8> = zones.values().copied().collect();
    let least = present.iter().map(|zone| in_zone(*zone, &|app, _| app)).min().unwrap_or(0);
    let mut spread_pod = pod("incoming", spread(ZONE, 1));
    let mut apart = pod("incoming", terms("podAntiAffinity", ZONE, "web"));
    for value in [&mut spread_pod, &mut apart] {
        value["metadata"]["labels"] = json!({"app": "web"});
    }
    for (value, own_rule) in [(spread_pod, true), (apart, false)] {
        let pod = info(value);
        for (node, zone) in zones {
            let Some(index) = cache.index(&format!("n{node}")) else { panic!("n{node} is unknown") };
            let repelled = in_zone(*zone, &|_, repels| repels) > 0;
            let matching = in_zone(*zone, &|app, _| app);
            let free = !repelled && if own_rule { matching < least + 1 } else { matching == 0 };
            prop_assert_eq!(fits(&default_profile(), cache, &pod, index), free, "n{} in z{}", node, zone);
        }
    }
    Ok(())
}

/// Any namespace's editor can write such a pod: it may cost neither time nor memory, nor hold others up.
#[test]
fn a_pod_of_very_many_terms_is_told_so_and_leaves_nothing() {
    let mut cache = Cache::default();
    add_node(&mut cache, node("n1", "z1"));
    let many: Vec<Value> = (0..12_000)
        .map(|at| json!({"topologyKey": format!("k{at}"), "labelSelector": {"matchLabels": {"a": "b"}}}))
        .collect();
    let spreads: Vec<Value> = (0..12_000)
        .map(
            |at| json!({"topologyKey": format!("k{at}"), "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}),
        )
        .collect();
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let tolerations: Vec<Value> = (0..12_000).map(|at| json!({"key": format!("k{at}")})).collect();
    for more in [
        json!({"affinity": {"podAffinity": {required: many}}}),
        json!({"affinity": {"podAntiAffinity": {required: many}}}),
        json!({"topologySpreadConstraints": spreads}),
        json!({"tolerations": tolerations}),
    ] {
        let heavy = info(pod("heavy", more.clone()));
        assert!(heavy.affinity.len() + heavy.anti_affinity.len() <= crate::weight::MOST_TERMS);
        let Err(NotFound::Unfit(unfit)) = place(&default_profile(), &mut cache, &heavy, &mut 0, |_| 0) else {
            panic!("the heavy pod was not turned away");
        };
        let message = unfit.1.message();
        assert!(message.starts_with("0/1 nodes are available: the pod's affinity, topology"), "{message}");
        assert_eq!(cache.counters.len(), 0);
        let light = info(pod("light", json!({})));
        assert!(place(&default_profile(), &mut cache, &light, &mut 0, |_| 0).is_ok());
        // Bound past the scheduler, it counts no more than the limit.
        bound(&mut cache, pod("heavy", more), "n1");
        assert!(cache.counters.len() <= crate::weight::MOST_TERMS);
        cache.remove(&("ns".to_string(), "heavy".to_string()));
        assert_eq!(cache.counters.len(), 0);
    }
}

/// A pod of a namespace whose anti-affinity names labels that no other pod's does.
fn distinct(namespace: &str, name: &str, terms: usize) -> Value {
    let required: Vec<Value> = (0..terms)
        .map(|at| json!({"topologyKey": HOST, "labelSelector": {"matchLabels": {"own": format!("{name}-{at}")}}}))
        .collect();
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": required});
    let mut value = pod(name, json!({"affinity": {"podAntiAffinity": required}}));
    value["metadata"]["namespace"] = json!(namespace);
    value["metadata"]["uid"] = json!(format!("{namespace}/{name}"));
    value["metadata"]["labels"] = json!({"app": name});
    value
}

#[test]
fn terms_of_many_pods_take_no_more_than_their_share() {
    const TERMS: usize = 128;
    let share = crate::counters::MOST_OWNED / crate::counters::SHARES;
    let mut cache = cluster(&[("n1", "z1"), ("n2", "z2")]);
    let pods = share / TERMS + 8;
    for at in 0..pods {
        bound(&mut cache, distinct("greedy", &format!("p{at}"), TERMS), "n1");
    }
    assert_eq!(cache.counters.owned_terms(), share, "{pods} pods");
    // One more of the namespace is told so, and one of another namespace has room.
    let told = placed(&mut cache, distinct("greedy", "more", 1)).unwrap_err();
    assert!(told.contains("leave no room for those of this pod"), "{told}");
    placed(&mut cache, distinct("other", "more", 1)).unwrap();
    placed(&mut cache, distinct("greedy", "p0", TERMS)).expect("its terms are kept already");
    placed(&mut cache, pod("plain", json!({}))).unwrap();
    // The terms of those that were bound all the same do not count; all others' do.
    let repelled = |cache: &mut Cache, name: &str| {
        let mut value = pod("incoming", json!({"nodeSelector": {HOST: "n1"}}));
        value["metadata"]["namespace"] = json!("greedy");
        value["metadata"]["labels"] = json!({"own": format!("{name}-5")});
        placed(cache, value).is_err()
    };
    let last = format!("p{}", pods - 1);
    assert!(repelled(&mut cache, "p0") && !repelled(&mut cache, &last));
    // When one is gone there is room for another, and what did not count is not taken back.
    for at in (0..pods).rev() {
        let gone = format!("p{at}");
        cache.remove(&("greedy".to_string(), gone.clone()));
        assert!(!repelled(&mut cache, &gone));
    }
    assert_eq!(cache.counters.owned_terms(), 0);
    placed(&mut cache, distinct("greedy", "more", TERMS)).unwrap();
}

#[test]
fn tens_of_thousands_of_pods_with_terms_of_their_own_are_taken_in() {
    const PODS: usize = 30_000;
    let mut cache = cluster(&[("n1", "z1")]);
    for at in 0..PODS {
        bound(&mut cache, distinct(&format!("ns{}", at % 100), &format!("p{at}"), 1), "n1");
    }
    assert_eq!(cache.counters.len(), crate::counters::MOST_OWNED);
    for at in 0..PODS {
        cache.remove(&(format!("ns{}", at % 100), format!("p{at}")));
    }
    assert_eq!(cache.counters.len(), 0);
}

/// One counter per topology key, however many terms share it.
#[test]
fn terms_of_one_topology_share_a_counter() {
    let mut cache = Cache::default();
    add_node(&mut cache, node("n1", "z1"));
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let many: Vec<Value> = (0..200)
        .map(|at| json!({"topologyKey": ZONE, "labelSelector": {"matchLabels": {"a": at.to_string()}}}))
        .collect();
    let pod = info(pod("p", json!({"affinity": {"podAffinity": {required: many}}})));
    assert!(!pod.too_heavy && !fits(&default_profile(), &mut cache, &pod, 0));
    assert_eq!(cache.counters.len(), 1);
}
