//! Which routes a node wants.

use super::*;

fn peer(name: &str, cidr: Option<&str>, address: Option<&str>) -> Peer {
    Peer {
        name: name.into(),
        pod_cidr: cidr.map(str::to_string),
        address: address.map(|address| address.parse().unwrap()),
        created: None,
    }
}

fn of_age(peer: Peer, created: &str) -> Peer {
    Peer { created: Some(created.parse().unwrap()), ..peer }
}

const CLUSTER: &str = "10.42.0.0/16";

#[test]
fn a_route_leads_to_every_other_node_that_has_a_range_and_an_address() {
    let peers = [
        peer("own", Some("10.42.0.0/24"), Some("192.0.2.1")),
        peer("two", Some("10.42.1.0/24"), Some("192.0.2.2")),
        peer("no-range", None, Some("192.0.2.3")),
        peer("no-address", Some("10.42.3.0/24"), None),
        peer("same-address", Some("10.42.4.0/24"), Some("192.0.2.1")),
    ];
    let (wanted, refused) = wanted(&peers, "own", CLUSTER).unwrap();
    assert_eq!(refused, Refusals::new());
    assert_eq!(
        wanted.into_iter().collect::<Vec<_>>(),
        [("10.42.1.0/24".to_string(), Ipv4Addr::new(192, 0, 2, 2))]
    );
}

#[test]
fn ranges_outside_the_clusters_get_no_route() {
    for stranger in ["10.99.0.7/32", "0.0.0.0/0", "10.0.0.0/8", "10.42.1.7/24", "nonsense"] {
        let peers = [
            peer("own", Some("10.42.0.0/24"), Some("192.0.2.1")),
            peer("two", Some(stranger), Some("192.0.2.2")),
            peer("three", Some("10.42.3.0/24"), Some("192.0.2.3")),
        ];
        let (routes, refused) = wanted(&peers, "own", CLUSTER).unwrap();
        assert_eq!(routes.keys().collect::<Vec<_>>(), ["10.42.3.0/24"], "{stranger}");
        assert!(refused["two"].contains(stranger), "{refused:?}");
    }
}

#[test]
fn of_ranges_that_overlap_the_oldest_nodes_is_routed_and_the_own_never() {
    let peers = [
        of_age(peer("own", Some("10.42.0.0/24"), Some("192.0.2.1")), "2026-03-01T00:00:00Z"),
        of_age(peer("a-thief", Some("10.42.1.0/25"), Some("192.0.2.9")), "2026-02-01T00:00:00Z"),
        of_age(peer("victim", Some("10.42.1.0/24"), Some("192.0.2.2")), "2026-01-01T00:00:00Z"),
        of_age(peer("oldest", Some("10.42.0.0/28"), Some("192.0.2.3")), "2025-01-01T00:00:00Z"),
    ];
    let (routes, refused) = wanted(&peers, "own", CLUSTER).unwrap();
    assert_eq!(
        routes.into_iter().collect::<Vec<_>>(),
        [("10.42.1.0/24".to_string(), Ipv4Addr::new(192, 0, 2, 2))]
    );
    assert!(refused["a-thief"].contains("overlaps the range of node victim"), "{refused:?}");
    assert!(refused["oldest"].contains("overlaps the range of node own"), "{refused:?}");
}

#[test]
fn ranges_are_checked() {
    assert_eq!(crate::range::parse("10.42.1.0/24").unwrap(), (Ipv4Addr::new(10, 42, 1, 0), 24));
    for wrong in ["10.42.1.0", "10.42.1.0/33", "x/24", "fd00::/64"] {
        assert!(crate::range::parse(wrong).is_err(), "{wrong}");
    }
}
