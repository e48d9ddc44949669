//! Keys of ranges, and what overlaps what.

use std::collections::BTreeMap;

use api::{Patch, UpdateOptions};
use client::ObjectRef;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::Harness;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

#[test]
fn keys_sort_like_addresses_and_can_be_read() {
    assert_eq!(key(&cidr("10.42.3.0/24")), "/registry/claims/podcidrs/ipv4/010.042.003.000/24");
    assert_eq!(
        key(&cidr("fd00:1::/64")),
        "/registry/claims/podcidrs/ipv6/fd00:0001:0000:0000:0000:0000:0000:0000/64"
    );
    let sorted = ["9.0.0.0/8", "10.0.0.0/8", "10.2.0.0/16", "10.10.0.0/16", "100.0.0.0/8"];
    let keys: Vec<String> = sorted.iter().map(|text| key(&cidr(text))).collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

/// Records in memory.
struct Table(BTreeMap<String, Record>);

impl Records for Table {
    fn get(&self, key: &str) -> Option<Record> {
        self.0.get(key).cloned()
    }

    fn between(&self, from: &str, to: &str) -> Vec<Record> {
        self.0.range(from.to_string()..to.to_string()).map(|(_, record)| record.clone()).collect()
    }
}

fn any_range() -> impl Strategy<Value = Cidr> {
    // Few bits differ, so that many overlap.
    let v4 = (any::<[bool; 8]>(), 0..=32_u8).prop_map(|(bits, prefix)| {
        let [a, b, c, d, e, f, g, h] = bits.map(u8::from);
        Cidr::new([10 | a << 7, b << 7 | c, d << 7 | e << 3 | f, g << 7 | h].into(), prefix).unwrap()
    });
    let v6 = (any::<[bool; 4]>(), 0..=128_u8).prop_map(|(bits, prefix)| {
        let [a, b, c, d] = bits.map(u16::from);
        Cidr::new([0xfd00 | a, b << 15, 0, c, 0, 0, 0, d].into(), prefix).unwrap()
    });
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn a_record_is_found_exactly_if_its_range_overlaps(one in any_range(), other in any_range()) {
        let record = Record { key: key(&other).into(), value: Default::default(), revision: 1 };
        let table = Table([(key(&other), record)].into());
        prop_assert_eq!(overlapping(&table, &one).is_some(), one.overlaps(&other), "{} {}", one, other);
    }
}

#[tokio::test]
async fn a_range_that_is_set_stays() {
    let h = Harness::start().await;
    for (name, range) in [("a", "10.42.1.0/24"), ("b", "10.42.2.0/24")] {
        h.create(&NODE, None, json!({"metadata": {"name": name}, "spec": {"podCIDR": range}})).await;
    }
    let patch = Patch::merge(json!({"spec": {"podCIDR": "10.42.2.0/24", "podCIDRs": ["10.42.2.0/24"]}}));
    let at = ObjectRef::new(None, "a");
    let refused = h.api.patch(&NODE, at, patch, &UpdateOptions::default()).await.unwrap_err();
    let want = "node updates may not change podCIDR except from \"\" to valid";
    assert!(refused.message().contains(want), "{refused}");
    let twice = json!({"metadata": {"name": "c"}, "spec": {"podCIDRs": ["10.42.4.0/22", "10.42.5.0/24"]}});
    let refused = h.api.create(&NODE, None, twice, &api::CreateOptions::default()).await.unwrap_err();
    assert!(refused.message().contains("overlaps 10.42.5.0/24 of the same node"), "{refused}");
    h.stop().await;
}
