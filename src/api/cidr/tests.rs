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

#[test]
fn services_have_all_but_the_first_and_the_last_address() {
    let addresses = |text: &str| {
        let range = cidr(text);
        (0..range.service_addresses().min(4))
            .filter_map(|index| range.service_address(index))
            .map(|one| one.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(addresses("10.43.0.0/30"), ["10.43.0.1", "10.43.0.2"]);
    assert_eq!(addresses("fd00::/126"), ["fd00::1", "fd00::2", "fd00::3"]);
    assert_eq!(addresses("10.43.0.0/32"), [""; 0]);
    assert_eq!(addresses("10.43.0.0/31"), [""; 0]);
    assert_eq!(addresses("::/0").len(), 4);
    for range in [cidr("10.43.0.0/29"), cidr("fd00::/125")] {
        for index in 0..range.service_addresses() {
            assert_eq!(range.service_index(range.service_address(index).unwrap()), Some(index));
        }
        assert_eq!(
            [range.address(), "10.44.0.1".parse().unwrap()].map(|one| range.service_index(one)),
            [None; 2]
        );
    }
    assert_eq!(cidr("10.43.0.0/29").service_index("10.43.0.7".parse().unwrap()), None);
    let holds = |text: &str| {
        ["10.43.0.0/30", "fd00::/126"].map(|range| cidr(range).holds_service_address(text.parse().unwrap()))
    };
    assert_eq!(holds("10.43.0.0"), [false, false]);
    assert_eq!(holds("10.43.0.2"), [true, false]);
    assert_eq!(holds("10.43.0.3"), [false, false]);
    assert_eq!(holds("fd00::"), [false, false]);
    assert_eq!(holds("fd00::3"), [false, true]);
    assert_eq!(holds("fd00::4"), [false, false]);
}

#[test]
fn the_band_for_chosen_addresses_is_upstreams() {
    let band = |text: &str| cidr(text).static_service_addresses();
    assert_eq!(
        [
            "10.0.0.0/16",
            "10.0.0.0/20",
            "10.0.0.0/23",
            "10.0.0.0/24",
            "10.0.0.0/28",
            "10.0.0.0/30",
            "fd00::/112"
        ]
        .map(band),
        [256, 256, 32, 16, 0, 0, 256]
    );
    assert_eq!(cidr("10.0.0.0/27").static_service_addresses(), 16);
    assert_eq!(cidr("::/0").static_service_addresses(), 256);
}

#[test]
fn ranges_overlap_if_one_covers_the_other() {
    let overlaps = |one: &str, other: &str| cidr(one).overlaps(&cidr(other));
    assert!(overlaps("10.0.0.0/8", "10.43.0.0/16") && overlaps("10.43.0.0/16", "10.0.0.0/8"));
    assert!(!overlaps("10.42.0.0/16", "10.43.0.0/16") && !overlaps("0.0.0.0/0", "::/0"));
    assert_eq!(cidr("10.43.0.0/16").last().to_string(), "10.43.255.255");
    assert_eq!(cidr("0.0.0.0/0").last().to_string(), "255.255.255.255");
}
