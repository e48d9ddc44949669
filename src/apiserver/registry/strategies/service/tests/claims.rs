//! What is free, what finding it costs, and that no address is held without a claim.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::Cidr;

use super::super::addresses;
use super::*;
use crate::claims::Record;
use crate::registry::strategies::ip_address;

/// Records by key, and how often they are read.
#[derive(Default)]
struct Counted {
    records: BTreeMap<String, Record>,
    reads: AtomicUsize,
}

impl Counted {
    fn put(&mut self, key: String) {
        let record = Record { key: key.clone().into(), value: "{}".into(), revision: 1 };
        assert!(self.records.insert(key, record).is_none(), "it was taken");
    }

    /// Reads since this was asked last.
    fn reads(&self) -> usize {
        self.reads.swap(0, Ordering::Relaxed)
    }
}

impl Records for Counted {
    fn get(&self, key: &str) -> Option<Record> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.records.get(key).cloned()
    }

    fn between(&self, from: &str, to: &str) -> Vec<Record> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.records.range(from.to_string()..to.to_string()).map(|(_, record)| record.clone()).collect()
    }
}

#[test]
fn the_upper_band_is_handed_out_first() {
    let range: Cidr = "10.43.0.0/26".parse().unwrap();
    assert_eq!((range.static_service_addresses(), range.service_addresses()), (16, 62));
    let mut taken = Counted::default();
    while let Some(address) = addresses::free_in(&range, &taken, &|_| true) {
        let upper = taken.records.len() < 62 - 16;
        let IpAddr::V4(v4) = address else { panic!("{address}") };
        assert_eq!(v4.octets()[3] > 16, upper, "{address} as number {}", taken.records.len());
        taken.put(ip_address::key(address));
    }
    assert_eq!(taken.records.len(), 62);
    let ports = 30000..=30063;
    let mut taken = Counted::default();
    while let Some(port) = node_ports::find_free(&ports, &taken, &|_| true) {
        assert_eq!(port >= 30016, taken.records.len() < 48, "{port} as number {}", taken.records.len());
        taken.put(node_ports::key(port));
    }
    assert_eq!(taken.records.len(), 64);
    assert_eq!(node_ports::find_free(&(30000..=30000), &Counted::default(), &|_| true), Some(30000));
    // Nobody has a record of these, but they are not free all the same.
    let held: IpAddr = "10.43.0.2".parse().unwrap();
    let range: Cidr = "10.43.0.0/30".parse().unwrap();
    for _ in 0..50 {
        let found = addresses::free_in(&range, &Counted::default(), &|address| address != held);
        assert_eq!(found, Some("10.43.0.1".parse().unwrap()));
    }
    assert_eq!(addresses::free_in(&range, &Counted::default(), &|_| false), None);
}

#[test]
fn a_full_range_costs_a_few_reads_whatever_its_size() {
    // Guesses in two bands, and one read of everything.
    const MOST: usize = 10 + 10 + 1 + 1;
    let range: Cidr = "10.43.0.0/20".parse().unwrap();
    let mut taken = Counted::default();
    let all = range.service_addresses();
    for index in 0..all {
        taken.put(ip_address::key(range.service_address(index).unwrap()));
    }
    assert_eq!(addresses::free_in(&range, &taken, &|_| true), None);
    assert!(taken.reads() <= MOST);
    for index in [0, 17, 300, all - 1] {
        let only = range.service_address(index).unwrap();
        let record = taken.records.remove(&ip_address::key(only)).unwrap();
        assert_eq!(addresses::free_in(&range, &taken, &|_| true), Some(only));
        assert!(taken.reads() <= MOST);
        taken.put(String::from_utf8(record.key.to_vec()).unwrap());
    }
    let ports = 30000..=32767;
    let mut taken = Counted::default();
    ports.clone().for_each(|port| taken.put(node_ports::key(port)));
    assert_eq!(node_ports::find_free(&ports, &taken, &|_| true), None);
    assert!(taken.reads() <= MOST);
    for only in [30000, 31500, 32767] {
        taken.records.remove(&node_ports::key(only)).unwrap();
        assert_eq!(node_ports::find_free(&ports, &taken, &|_| true), Some(only));
        assert!(taken.reads() <= MOST);
        taken.put(node_ports::key(only));
    }
    // One with room costs one.
    assert!(addresses::free_in(&range, &Counted::default(), &|_| true).is_some());
    let empty = Counted::default();
    assert!(node_ports::find_free(&ports, &empty, &|_| true).is_some());
    assert_eq!(empty.reads(), 1);
}

/// Puts objects into the store past the API server, and waits until it knows of them.
async fn put(h: &Harness, name: &str, spec: Value, claims: &[IpAddr]) {
    let tree = json!({"apiVersion": "v1", "kind": "Service", "spec": spec,
        "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}});
    let put = |key: String, value: bytes::Bytes| embedded_store::Op::Put { key: key.into(), value, lease: 0 };
    let mut ops =
        vec![put(SERVICE.storage_key(HERE, name).unwrap(), serde_json::to_vec(&tree).unwrap().into())];
    for address in claims {
        let record = ip_address::record(*address, "default", name, jiff::Timestamp::now()).unwrap();
        ops.push(put(ip_address::key(*address), record));
    }
    let mut watch = h.watch(&SERVICE, &api::WatchOptions::default()).await;
    let txn = embedded_store::Txn { success: ops, ..embedded_store::Txn::default() };
    embedded_store::Store::txn(&*h.store, txn).await.unwrap();
    while watch.next().await != format!("ADDED {name}") {}
}

#[tokio::test]
async fn a_service_of_others_holds_the_address_of_its_older_field() {
    let h = Harness::start().await;
    let spec =
        json!({"type": "ClusterIP", "clusterIP": "10.43.7.7", "ports": [{"port": 80, "protocol": "TCP"}]});
    put(&h, "old", spec, &["10.43.7.7".parse().unwrap()]).await;
    let taken = create(&h, service("b", json!({"clusterIP": "10.43.7.7"}))).await.unwrap_err();
    assert!(taken.message().ends_with("provided IP is already allocated"), "{taken}");
    // Another address, free or not, is no way to have one without a claim.
    let change = |address: &str| patch(&h, "old", json!({"spec": {"clusterIP": address}}));
    for address in ["10.43.9.9", "10.43.0.1", "None"] {
        let refused = change(address).await.unwrap_err();
        assert!(refused.message().contains("may not change once set"), "{address}: {refused}");
    }
    let kept = patch(&h, "old", json!({"spec": {"sessionAffinity": "ClientIP"}})).await.unwrap();
    assert_eq!(kept["spec"]["clusterIPs"], json!(["10.43.7.7"]), "it has both fields from now on");
    assert_eq!(claimed(&h).await, ["10.43.7.7"]);
    h.delete(&SERVICE, HERE, "old").await.unwrap();
    assert_eq!(claimed(&h).await, [""; 0]);
    h.stop().await;
}

#[tokio::test]
async fn no_form_of_an_object_holds_an_address_without_a_claim() {
    let h = Harness::start().await;
    let ports = json!([{"port": 80, "protocol": "TCP"}]);
    put(&h, "headless", json!({"type": "ClusterIP", "clusterIP": "None", "ports": ports}), &[]).await;
    put(&h, "bare", json!({"type": "ClusterIP", "ports": ports}), &[]).await;
    let own = create(&h, service("own", json!({}))).await.unwrap()["spec"]["clusterIP"].clone();
    // Of a free address, one of the range's own, and one of another service.
    for address in [json!("10.43.9.9"), json!("10.43.0.0"), json!("10.43.0.1")] {
        let forms = [
            json!({"clusterIP": own, "clusterIPs": [address]}),
            json!({"clusterIP": address, "clusterIPs": [own]}),
            json!({"clusterIP": own, "clusterIPs": [own, address]}),
            json!({"clusterIP": "None", "clusterIPs": [address]}),
            json!({"clusterIP": address, "clusterIPs": ["None"]}),
            json!({"clusterIP": "", "clusterIPs": ["", address]}),
        ];
        for form in forms {
            for name in ["own", "headless", "bare"] {
                let before = claimed(&h).await;
                if let Ok(done) = patch(&h, name, json!({"spec": form})).await {
                    let spec = &done["spec"];
                    let lists = spec["clusterIPs"].as_array().unwrap();
                    let held = lists.iter().filter(|one| *one != "None").map(|one| one.as_str().unwrap());
                    for one in held.chain([spec["clusterIP"].as_str().unwrap()]).filter(|one| *one != "None")
                    {
                        let record = h.get(&IP_ADDRESS, None, one).await.unwrap();
                        assert_eq!(record["spec"]["parentRef"]["name"], name, "{form}");
                    }
                } else {
                    assert_eq!(claimed(&h).await, before, "{form}");
                }
            }
        }
    }
    let mismatched = json!({"clusterIP": "10.43.9.1", "clusterIPs": ["10.43.9.2"]});
    let refused = create(&h, service("m", mismatched)).await.unwrap_err();
    assert!(refused.message().contains("first value must match `clusterIP`"), "{refused}");
    h.stop().await;
}
