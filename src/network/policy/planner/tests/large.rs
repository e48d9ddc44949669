//! Policies whose rules would be too many.

use super::*;

/// A policy of the kind that says the most, a pod that it selects, and one that it does not.
fn with_large_policy(rule: Value) -> (World, Followed, Round) {
    let (mut world, mut followed) = (World::default(), Followed::default());
    let pod = |app: &str| {
        let labels = json!({"app": app});
        json!({"metadata": {"namespace": "a", "labels": labels}, "spec": {"nodeName": "one", "containers": []}})
    };
    followed.take(world.set_namespace(0, Some(json!({}))));
    for number in 0..100 {
        followed.take(world.set_pod(number, Some(pod(if number == 0 { "closed" } else { "open" }))));
    }
    let spec = json!({"podSelector": {"matchLabels": {"app": "closed"}}, "ingress": [rule]});
    let changes = world.set_policy(0, Some(json!({"metadata": {"namespace": "a"}, "spec": spec})));
    let round = followed.planner.update(changes);
    followed.elements.extend(&round.add);
    (world, followed, round)
}

/// A kind of check that a plain test cannot make, of memory, is in that these end at all.
#[test]
fn a_policy_that_comes_to_too_much_allows_nothing_and_says_so() {
    let ports: Vec<Value> = (0..6_000).map(|at| json!({"port": 1 + at * 2})).collect();
    let ranges: Vec<Value> =
        (0..600).map(|at| json!({"port": 1 + at * 20, "endPort": 10 + at * 20})).collect();
    let address = |at: u32| format!("10.1.{}.{}/32", at / 250 * 2 % 250, at % 125 * 2);
    let blocks: Vec<Value> = (0..6_000).map(|at| json!({"ipBlock": {"cidr": address(at)}})).collect();
    let selectors: Vec<Value> =
        (0..6_000).map(|at| json!({"podSelector": {"matchLabels": {"x": at.to_string()}}})).collect();
    let named: Vec<Value> = (0..6_000).map(|at| json!({"port": format!("p{at}")})).collect();
    let all = json!([{"podSelector": {}}]);
    let cases = [
        json!({"from": blocks, "ports": ports}),
        json!({"from": selectors, "ports": ports}),
        json!({"from": all, "ports": ports}),
        json!({"from": all, "ports": ranges}),
    ];
    for rule in cases {
        let (mut world, mut followed, round) = with_large_policy(rule);
        assert_eq!(round.too_large, ["Ingress of NetworkPolicy a/n0"]);
        let [closed, open] = ["10.42.0.1", "10.42.0.2"].map(|it| it.parse::<IpAddr>().unwrap());
        assert!(!lets_through(&followed.elements, open, closed, Protocol::Tcp, 1));
        assert!(lets_through(&followed.elements, closed, open, Protocol::Tcp, 1));
        assert!(followed.elements.len() < 10, "{}", followed.elements.len());
        // It is as if nothing had been once it has gone.
        followed.take(world.set_policy(0, None));
        assert!(followed.elements.is_empty());
        let planner = &followed.planner;
        assert!(planner.groups.is_empty() && planner.too_large.is_empty() && planner.all_held == 0);
        // The number serves another one.
        let small =
            json!({"podSelector": {"matchLabels": {"app": "closed"}}, "ingress": [{"ports": [{"port": 1}]}]});
        followed.take(world.set_policy(0, Some(json!({"metadata": {"namespace": "a"}, "spec": small}))));
        assert!(lets_through(&followed.elements, open, closed, Protocol::Tcp, 1));
    }
    // Names that nobody has are none, and many peers with few ports are fine.
    for rule in [json!({"from": blocks, "ports": named}), json!({"from": blocks, "ports": [{"port": 80}]})] {
        assert_eq!(with_large_policy(rule).2.too_large, Vec::<String>::new());
    }
}
