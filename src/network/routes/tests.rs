//! Which routes a node wants.

use super::*;

fn peer(name: &str, cidr: Option<&str>, address: Option<&str>) -> Peer {
    Peer {
        name: name.into(),
        pod_cidr: cidr.map(str::to_string),
        address: address.map(|address| address.parse().unwrap()),
    }
}

#[test]
fn a_route_leads_to_every_other_node_that_has_a_range_and_an_address() {
    let peers = [
        peer("own", Some("10.42.0.0/24"), Some("192.0.2.1")),
        peer("two", Some("10.42.1.0/24"), Some("192.0.2.2")),
        peer("no-range", None, Some("192.0.2.3")),
        peer("no-address", Some("10.42.3.0/24"), None),
        peer("same-address", Some("10.42.4.0/24"), Some("192.0.2.1")),
    ];
    let wanted = wanted(&peers, "own");
    assert_eq!(
        wanted.into_iter().collect::<Vec<_>>(),
        [("10.42.1.0/24".to_string(), Ipv4Addr::new(192, 0, 2, 2))]
    );
}

#[test]
fn ranges_are_checked() {
    assert_eq!(parse("10.42.1.0/24").unwrap(), (Ipv4Addr::new(10, 42, 1, 0), 24));
    for wrong in ["10.42.1.0", "10.42.1.0/33", "x/24", "fd00::/64"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
