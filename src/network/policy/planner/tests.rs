//! Policies by hand and by chance, against a plain evaluation of the objects; golden files; a real kernel.

mod large;
mod reference;

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::rules::Table;
use super::profiles::FAMILIES;
use super::*;
use crate::proxy::facts::Family;
use crate::testing::kernel::{apart, held, nft};
use reference::World;

/// What the rule set lets through, from one end to the other.
fn lets_through(
    elements: &BTreeSet<Element>,
    client: IpAddr,
    server: IpAddr,
    protocol: Protocol,
    port: u16,
) -> bool {
    let has = |set, key| elements.contains(&Element { set, key, profile: None });
    if client == server && has(Set::Selves, Key::Twice(client)) {
        return true;
    }
    let passes = |direction, own: IpAddr, other: IpAddr| {
        let profile =
            elements.iter().find(|it| it.set == Set::Pods(direction) && it.key == Key::Address(own));
        let Some(number) = profile.and_then(|it| it.profile) else { return true };
        has(Set::Peers(direction), Key::Peer(number, other))
            || has(Set::Ports(direction), Key::Port(number, other, protocol, port))
            || elements.iter().any(|it| match it.key {
                Key::Block(of, first, last) => {
                    it.set == Set::Blocks(direction) && of == number && first <= other && other <= last
                }
                Key::Range(of, first, last, of_protocol, low, high) => {
                    let fits = of == number && first <= other && other <= last && of_protocol == protocol;
                    it.set == Set::Ranges(direction) && fits && low <= port && port <= high
                }
                _ => false,
            })
    };
    passes(Direction::Egress, client, server) && passes(Direction::Ingress, server, client)
}

/// A planner with the rule set that its rounds have made.
struct Followed {
    planner: Planner,
    elements: BTreeSet<Element>,
}

fn ranges(node: &str, ranges: &[&str]) -> Option<Ranges> {
    Some([(node.to_string(), ranges.iter().map(|it| Cidr::parse(it).unwrap()).collect())].into())
}

impl Default for Followed {
    fn default() -> Self {
        let mut planner = Planner::default();
        planner
            .update(Changes { ranges: ranges("two", &["10.42.0.0/16", "fd00::/64"]), ..Changes::default() });
        Followed { planner, elements: BTreeSet::new() }
    }
}

impl Followed {
    fn take(&mut self, changes: Changes) {
        let round = self.planner.update(changes);
        for element in round.remove {
            assert!(self.elements.remove(&element), "{element:?} was not there");
        }
        for element in round.add {
            assert!(self.elements.insert(element), "{element:?} was there");
        }
        assert_eq!(self.elements, self.planner.elements().copied().collect());
        // A map has each key once.
        let keys: BTreeSet<_> = self.elements.iter().map(|it| (it.set, it.key)).collect();
        assert_eq!(keys.len(), self.elements.len());
    }
}

fn protocols() -> [Protocol; 3] {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
}

/// Compares every flow among pods and a few others.
fn compare(world: &World, followed: &Followed) -> Result<(), TestCaseError> {
    let mut ends: Vec<IpAddr> = world.addresses();
    ends.extend(["192.0.2.1", "10.42.0.200", "fd00::99"].map(|it| it.parse::<IpAddr>().unwrap()));
    for client in &ends {
        for server in ends.iter().filter(|server| server.is_ipv4() == client.is_ipv4()) {
            for protocol in protocols() {
                for port in [79, 80, 81, 90, 91, 443, 8080] {
                    let wanted = world.allows(*client, *server, protocol, port);
                    let found = lets_through(&followed.elements, *client, *server, protocol, port);
                    prop_assert_eq!(
                        found,
                        wanted,
                        "{} to {} {:?} {}\n{:#?}\n{:#?}",
                        client,
                        server,
                        protocol,
                        port,
                        world,
                        followed.elements
                    );
                }
            }
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Policy(u8, Option<Value>),
    Namespace(u8, Option<Value>),
    Pod(u8, Option<Value>),
}

fn labels() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"x": "1"})),
        Just(json!({"x": "2"})),
        Just(json!({"x": "1", "y": "1"}))
    ]
}

fn selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        labels().prop_map(|labels| json!({"matchLabels": labels})),
        Just(json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["1"]}]})),
        Just(json!({"matchExpressions": [{"key": "y", "operator": "Exists"}]})),
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|pods| json!({"podSelector": pods})),
        selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (selector(), selector()).prop_map(|(a, b)| json!({"podSelector": a, "namespaceSelector": b})),
        Just(json!({"ipBlock": {"cidr": "10.42.0.0/16", "except": ["10.42.0.2/31", "10.42.0.128/25"]}})),
        Just(json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.42.0.0/24"]}})),
        Just(json!({"ipBlock": {"cidr": "fd00::/64"}})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"protocol": "TCP", "port": 80})),
        Just(json!({"protocol": "UDP", "port": 80})),
        Just(json!({"protocol": "TCP"})),
        Just(json!({"protocol": "SCTP", "port": 443})),
        Just(json!({"protocol": "TCP", "port": 80, "endPort": 90})),
        Just(json!({"protocol": "TCP", "port": 85, "endPort": 8080})),
        Just(json!({"protocol": "TCP", "port": "web"})),
        Just(json!({"protocol": "UDP", "port": "web"})),
    ]
}

fn policy() -> impl Strategy<Value = Value> {
    let rule = |peers: &'static str| {
        let parts = (prop::collection::vec(peer(), 0..3), prop::collection::vec(port(), 0..3));
        parts.prop_map(move |(all, ports)| json!({peers: all, "ports": ports}))
    };
    let types =
        prop_oneof![Just(json!(["Ingress"])), Just(json!(["Egress"])), Just(json!(["Ingress", "Egress"]))];
    let rules = (prop::collection::vec(rule("from"), 0..3), prop::collection::vec(rule("to"), 0..3));
    (any::<bool>(), selector(), types, rules).prop_map(|(first, pods, types, (ingress, egress))| {
        json!({
            "metadata": {"namespace": if first { "a" } else { "b" }},
            "spec": {"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress},
        })
    })
}

fn step() -> impl Strategy<Value = Step> {
    let pod = (any::<bool>(), labels(), any::<bool>(), 0_u16..3).prop_map(|(first, labels, local, web)| {
        let ports = match web {
            0 => json!([]),
            1 => json!([{"name": "web", "containerPort": 80}, {"name": "web", "containerPort": 443, "protocol": "UDP"}]),
            _ => json!([{"name": "web", "containerPort": 8080}]),
        };
        json!({
            "metadata": {"namespace": if first { "a" } else { "b" }, "labels": labels},
            "spec": {"nodeName": if local { "one" } else { "two" }, "containers": [{"name": "c", "ports": ports}]},
        })
    });
    prop_oneof![
        3 => (0_u8..4, prop::option::weighted(0.8, policy())).prop_map(|(at, it)| Step::Policy(at, it)),
        1 => (0_u8..2, prop::option::weighted(0.9, labels())).prop_map(|(at, it)| Step::Namespace(at, it)),
        4 => (0_u8..5, prop::option::weighted(0.8, pod)).prop_map(|(at, it)| Step::Pod(at, it)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_say_what_the_objects_say(steps in prop::collection::vec(step(), 1..25)) {
        let (mut world, mut followed) = (World::default(), Followed::default());
        for (at, step) in steps.iter().enumerate() {
            let changes = match step.clone() {
                Step::Policy(at, it) => world.set_policy(at, it),
                Step::Namespace(at, it) => world.set_namespace(at, it),
                Step::Pod(at, it) => world.set_pod(at, it),
            };
            followed.take(changes);
            if at % 6 == 5 {
                compare(&world, &followed)?;
            }
        }
        compare(&world, &followed)?;
        // Everything at once comes to the same.
        let mut anew = Followed::default();
        anew.take(world.everything());
        compare(&world, &anew)?;
        prop_assert_eq!(anew.elements.len(), followed.elements.len());
        // Nothing is left of what is gone.
        followed.take(world.nothing());
        prop_assert!(followed.elements.is_empty());
        let planner = &followed.planner;
        prop_assert!(planner.groups.is_empty() && planner.named_groups.is_empty());
        prop_assert!(planner.labelled_groups.is_empty());
        prop_assert!(planner.profiles.is_empty() && planner.numbers.is_empty() && planner.stale.is_empty());
        prop_assert!(planner.too_large.is_empty() && planner.held.is_empty() && planner.all_held == 0);
        prop_assert!(planner.pods.is_empty() && planner.told.is_empty() && planner.claims.is_empty());
    }
}

/// A policy of every kind, pods on this node and elsewhere, and the node's DNS.
fn everything() -> (World, Followed) {
    let (mut world, mut followed) = (World::default(), Followed::default());
    let dns = PodFacts {
        labels: [("k8s-app".to_string(), "kube-dns".to_string())].into(),
        addresses: vec!["10.43.0.10".parse().unwrap()],
        node: String::new(),
        is_local: true,
        ports: Vec::new(),
    };
    let round = followed.planner.set_on_node(("kube-system".into(), "kube-dns/node".into()), dns);
    followed.elements.extend(round.add);
    let pod = |labels: Value, node: &str| {
        json!({
            "metadata": {"namespace": "a", "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        })
    };
    let spec = |spec: Value| Some(json!({"metadata": {"namespace": "a"}, "spec": spec}));
    let mut steps = vec![
        world.set_namespace(0, Some(json!({"x": "1"}))),
        world.set_pod(0, Some(pod(json!({"app": "db"}), "one"))),
        world.set_pod(1, Some(pod(json!({"app": "db"}), "one"))),
        world.set_pod(2, Some(pod(json!({"app": "web"}), "one"))),
        world.set_pod(3, Some(pod(json!({"app": "web"}), "two"))),
        world.set_pod(4, Some(pod(json!({"app": "other"}), "two"))),
    ];
    let of_web = json!({"podSelector": {"matchLabels": {"app": "web"}}});
    let policies = [
        spec(json!({
            "podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [of_web], "ports": [{"port": "web"}, {"protocol": "SCTP", "port": 132}, {"port": 9000, "endPort": 9010}]},
                {"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}}, {"ipBlock": {"cidr": "2001:db8::/32"}}]},
            ],
        })),
        spec(json!({
            "podSelector": {}, "policyTypes": ["Egress"],
            "egress": [
                {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
                 "ports": [{"protocol": "UDP", "port": 53}]},
                {"to": [{"podSelector": {}}]},
            ],
        })),
        spec(json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]})),
    ];
    steps.push(world.set_named_namespace("kube-system", json!({})));
    steps.extend((0..).zip(policies).map(|(at, policy)| world.set_policy(at, policy)));
    steps.into_iter().for_each(|changes| followed.take(changes));
    (world, followed)
}

fn table(family: Family) -> Table {
    Table { family, name: "minik8s_policy".to_string() }
}

#[test]
fn the_rule_set_is_as_written_down() {
    let (_, followed) = everything();
    for (family, golden) in
        [(Family::V4, include_str!("../golden/ipv4.nft")), (Family::V6, include_str!("../golden/ipv6.nft"))]
    {
        let script = table(family).anew(2, followed.elements.iter());
        if let Some(folder) = std::env::var_os("WRITE_GOLDEN") {
            let name = if family == Family::V4 { "ipv4.nft" } else { "ipv6.nft" };
            std::fs::write(std::path::Path::new(&folder).join(name), &script).unwrap();
            continue;
        }
        assert_eq!(script, golden);
    }
}

#[test]
fn the_kernel_holds_what_nft_would_have_put_there() {
    apart(|| {
        let (_, followed) = everything();
        for family in FAMILIES {
            let (table, tables) = (table(family), crate::nfnetlink::Tables::default());
            let all: Vec<Element> =
                followed.elements.iter().filter(|it| it.key.family() == family).copied().collect();
            nft(&table.anew(16, all.iter()));
            let held = || held(family.keyword(), &table.name);
            let wanted = held();
            assert_eq!(wanted.values().map(Vec::len).sum::<usize>(), all.len());
            nft(&table.anew(16, [].iter()));
            let empty = held();
            tables.change(table.batch(&[], &all)).unwrap();
            assert_eq!(held(), wanted);
            // Ranges that are taken away and others that overlap them, at once.
            tables.change(table.batch(&all, &all)).unwrap();
            assert_eq!(held(), wanted);
            tables.change(table.batch(&all, &[])).unwrap();
            assert_eq!(held(), empty);
            nft(&table.change(&[], &all));
            assert_eq!(held(), wanted);
            nft(&table.removal());
        }
    });
}

#[test]
fn of_an_address_that_several_claim_the_last_has_it() {
    let mut followed = Followed::default();
    let facts = |app: &str| PodFacts {
        labels: [("app".to_string(), app.to_string())].into(),
        addresses: vec!["10.42.0.5".parse().unwrap()],
        node: "one".to_string(),
        is_local: true,
        ports: Vec::new(),
    };
    let name = |name: &str| ("a".to_string(), name.to_string());
    let pod = |which: &str, facts: Option<PodFacts>| Changes {
        pods: vec![(name(which), facts.map(Arc::new))],
        ..Changes::default()
    };
    let mut world = World::default();
    let policy =
        json!({"metadata": {"namespace": "a"}, "spec": {"podSelector": {"matchLabels": {"app": "old"}}}});
    followed.take(world.set_policy(0, Some(policy)));
    let is_closed =
        |followed: &Followed| followed.elements.iter().any(|it| it.set == Set::Pods(Direction::Ingress));
    followed.take(pod("first", Some(facts("old"))));
    assert!(is_closed(&followed));
    followed.take(pod("second", Some(facts("new"))));
    assert!(!is_closed(&followed), "the second one's policies count");
    // The first one has not come back by saying something else of itself.
    let relabelled = PodFacts { ports: vec![], ..facts("old") };
    followed.take(pod("first", Some(relabelled)));
    assert!(!is_closed(&followed));
    followed.take(pod("second", None));
    assert!(is_closed(&followed), "it is the only one again");
    followed.take(pod("first", None));
    assert!(followed.elements.is_empty());
}

#[test]
fn a_pod_elsewhere_has_no_address_but_of_its_nodes_range() {
    let (mut world, mut followed) = (World::default(), Followed::default());
    let of_node = |node: &str, range: &str| Changes { ranges: ranges(node, &[range]), ..Changes::default() };
    followed.take(of_node("two", "10.42.2.0/24"));
    let pod = |which: &str, node: &str, address: &str| Changes {
        pods: vec![(
            ("a".to_string(), which.to_string()),
            Some(Arc::new(PodFacts {
                labels: [("app".to_string(), which.to_string())].into(),
                addresses: vec![address.parse().unwrap()],
                node: node.to_string(),
                is_local: node == "one",
                ports: Vec::new(),
            })),
        )],
        ..Changes::default()
    };
    let policy = json!({"metadata": {"namespace": "a"}, "spec": {
        "podSelector": {"matchLabels": {"app": "own"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
    }});
    followed.take(world.set_policy(0, Some(policy)));
    followed.take(pod("own", "one", "10.42.1.5"));
    followed.take(pod("neighbour", "one", "10.42.1.6"));
    let reaches = |followed: &Followed, from: &str| {
        let own = "10.42.1.5".parse().unwrap();
        lets_through(&followed.elements, from.parse().unwrap(), own, Protocol::Tcp, 80)
    };
    assert!(!reaches(&followed, "192.0.2.1"));
    // It takes nothing of the pods here: neither the policies of one, nor another's address.
    followed.take(pod("thief", "two", "10.42.1.5"));
    assert!(!reaches(&followed, "192.0.2.1"));
    for address in ["10.42.1.6", "10.42.3.1", "192.0.2.1"] {
        followed.take(pod("friend", "two", address));
        assert!(!reaches(&followed, address), "{address}");
    }
    followed.take(pod("friend", "two", "10.42.2.9"));
    assert!(reaches(&followed, "10.42.2.9"));
    // The range was another's all the time.
    followed.take(of_node("three", "10.42.2.0/24"));
    assert!(!reaches(&followed, "10.42.2.9"));
    followed.take(of_node("two", "10.42.2.0/24"));
    assert!(reaches(&followed, "10.42.2.9"));
    // What comes first makes no difference.
    followed.take(pod("late", "one", "10.42.2.9"));
    assert!(!reaches(&followed, "10.42.2.9"), "a pod here has it");
}

/// Not a check of speed, which no build without optimisation tells, but of that it does not grow with the
/// square.
#[test]
fn ten_thousand_policies_are_planned_at_once_and_one_more_is_little_work() {
    let policy = |number: usize| {
        let name = ("a".to_string(), format!("p{number}"));
        let object = json!({"metadata": {"namespace": "a"}, "spec": {
            "podSelector": {"matchLabels": {"app": format!("app{}", number % 100)}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"client": number.to_string()}}}], "ports": [{"port": 80}]}],
        }});
        (name, PolicyFacts::of(&serde_json::from_value(object).unwrap()).map(Arc::new))
    };
    let pod = |number: usize| {
        let [_, _, high, low] = (number as u32).to_be_bytes();
        let labels =
            [("app".to_string(), format!("app{number}")), ("client".to_string(), number.to_string())];
        let facts = PodFacts {
            labels: labels.into(),
            addresses: vec![[10, 42, high, low].into()],
            node: "two".to_string(),
            is_local: number < 100,
            ports: Vec::new(),
        };
        (("a".to_string(), format!("pod{number}")), Some(Arc::new(facts)))
    };
    let mut planner = Planner::default();
    let began = std::time::Instant::now();
    let round = planner.update(Changes {
        policies: (0..10_000).map(policy).collect(),
        ranges: ranges("two", &["10.42.0.0/16"]),
        pods: (0..1_000).map(pod).collect(),
        namespaces: vec![("a".to_string(), Some(Labels::new()))],
    });
    let first = began.elapsed();
    assert_eq!(round.add.len(), 100 + 100 + 1_000);
    let began = std::time::Instant::now();
    let round = planner.update(Changes { pods: vec![pod(5_000)], ..Changes::default() });
    assert_eq!(round.add.len(), 1);
    let one = began.elapsed();
    println!("planned in {first:?}; one pod more in {one:?}");
    assert!(first < std::time::Duration::from_secs(20), "{first:?}");
}
