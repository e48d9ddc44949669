//! Tests of address ranges.

use proptest::prelude::*;

use super::Cidr;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

#[test]
fn subnets_of_a_cluster_range() {
    let cluster = cidr("10.42.0.0/16");
    assert_eq!(cluster.subnets(24), 256);
    assert_eq!(cluster.subnet(24, 0), Some(cidr("10.42.0.0/24")));
    assert_eq!(cluster.subnet(24, 255), Some(cidr("10.42.255.0/24")));
    assert_eq!(cluster.subnet(24, 256), None);
    assert_eq!(cluster.subnets(8), 0);
    assert_eq!(cluster.subnets(33), 0);
    assert_eq!(cidr("fd00::/48").subnet(64, 1), Some(cidr("fd00:0:0:1::/64")));
    assert_eq!(cidr("fd00::/48").index_of(64, &cidr("fd00:0:0:7::/64")), Some(7));
}

#[test]
fn parts_that_a_range_touches_are_known() {
    let cluster = cidr("10.42.0.0/16");
    assert_eq!(cluster.indices_touched(24, &cidr("10.42.7.0/24")), 7..8);
    assert_eq!(cluster.indices_touched(24, &cidr("10.42.7.128/25")), 7..8);
    assert_eq!(cluster.indices_touched(24, &cidr("10.42.4.0/22")), 4..8);
    assert_eq!(cluster.indices_touched(24, &cidr("10.0.0.0/8")), 0..256);
    assert_eq!(cluster.indices_touched(24, &cidr("10.99.0.7/32")), 0..0);
    assert_eq!(cluster.indices_touched(24, &cidr("fd00::/64")), 0..0);
}

#[test]
fn host_bits_are_dropped_and_nonsense_is_refused() {
    assert_eq!(cidr("10.42.3.4/16").to_string(), "10.42.0.0/16");
    assert_eq!(cidr("::1/0").to_string(), "::/0");
    for bad in ["", "10.42.0.0", "10.42.0.0/33", "10.42.0/16", "::/129", "/8"] {
        assert!(bad.parse::<Cidr>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn a_subnet_knows_its_index(address: u32, prefix in 0u8..=32, extra in 0u8..=16, index: u32) {
        let range = Cidr::new(std::net::Ipv4Addr::from_bits(address).into(), prefix).unwrap();
        let mask = prefix.saturating_add(extra).min(32);
        let index = index % range.subnets(mask);
        let part = range.subnet(mask, index).unwrap();
        prop_assert_eq!(range.index_of(mask, &part), Some(index));
    }
}
