//! What is repaired, and what is left alone.

use api::kinds::{EVENT, IP_ADDRESS, NODE, SERVICE};
use api::{CreateOptions, ListOptions, WatchOptions};
use embedded_store::{MemoryStore, Op, Store, Txn};
use serde_json::{Value, json};

use super::pass::{RECORDS_AT_ONCE, Recorders, RepairPass, RepairStep};
use super::{Suspects, run_pass};
use crate::claims::{CLAIMS, Records};
use crate::registry::strategies::service::node_ports;
use crate::registry::strategies::{ip_address, node::pod_ranges};
use crate::testing::{Harness, config};

const HERE: Option<&str> = Some("default");

fn put(key: String, value: &Value) -> Op {
    Op::Put { key: key.into(), value: serde_json::to_vec(value).unwrap().into(), lease: 0 }
}

fn delete(key: String) -> Op {
    Op::Delete { key: key.into(), range_end: None }
}

/// Writes past the API server.
async fn write(store: &MemoryStore, ops: Vec<Op>) {
    store.txn(Txn { success: ops, ..Txn::default() }).await.unwrap();
}

async fn service(h: &Harness, name: &str, spec: Value) -> Value {
    let body = json!({"metadata": {"name": name}, "spec": spec});
    let made = h.api.create(&SERVICE, HERE, body, &CreateOptions::default()).await.unwrap();
    made.tree().unwrap()["spec"].clone()
}

/// Looks at everything once.
async fn repair_once(h: &Harness, suspects: &mut Suspects) {
    let registry = &h.server.registry;
    run_pass(&mut RepairPass::new(registry, None), suspects).await.unwrap();
}

fn recorders(h: &Harness) -> Recorders {
    let recorder = |name: &str| client::events::Recorder::new(h.api.clone(), &h.server.stage, name, None);
    Recorders { addresses: recorder("a"), ports: recorder("p") }
}

fn claims(h: &Harness) -> Vec<String> {
    let records = h.server.registry.records().below(CLAIMS);
    records.iter().map(|record| String::from_utf8_lossy(&record.key[CLAIMS.len()..]).into_owned()).collect()
}

/// The reason and message of the first event about an object.
async fn event(h: &Harness, about: &str) -> (String, String) {
    let mut events =
        crate::testing::Events(h.api.watch(&EVENT, HERE, &WatchOptions::default()).await.unwrap());
    loop {
        let list = h.api.list(&EVENT, HERE, &ListOptions::default()).await.unwrap();
        let trees = list.items.iter().map(|object| object.tree().unwrap());
        if let Some(event) = trees.into_iter().find(|event| event["involvedObject"]["name"] == about) {
            let text = |field: &str| event[field].as_str().unwrap().to_string();
            return (text("reason"), text("message"));
        }
        events.next().await;
    }
}

/// Waits until an address is there and as wanted.
async fn address(h: &Harness, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut events =
        crate::testing::Events(h.api.watch(&IP_ADDRESS, None, &WatchOptions::default()).await.unwrap());
    loop {
        match h.get(&IP_ADDRESS, None, name).await {
            Ok(found) if wanted(&found) => return found,
            _ => events.next().await,
        };
    }
}

#[tokio::test]
async fn an_address_that_somebody_deletes_is_made_again_at_once() {
    let h = Harness::start().await;
    service(&h, "a", json!({"clusterIP": "10.43.7.7", "ports": [{"port": 80}]})).await;
    // The repair has begun once it has found what is not as it should be.
    let before = h.get(&IP_ADDRESS, None, "10.43.7.7").await.unwrap();
    h.delete(&IP_ADDRESS, None, "10.43.7.7").await.unwrap();
    let after = address(&h, "10.43.7.7", |_| true).await;
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["spec"], before["spec"]);
    let (reason, message) = event(&h, "a").await;
    assert_eq!(reason, "ClusterIPNotAllocated");
    assert_eq!(message, "Cluster IP [IPv4]: 10.43.7.7 is not allocated; repairing");
    h.stop().await;
}

#[tokio::test]
async fn data_of_a_version_without_claims_is_taken_over_before_anything_is_handed_out() {
    let h = Harness::start().await;
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "clusterIP": "10.43.7.7",
        "healthCheckNodePort": 30002, "ports": [{"port": 80, "nodePort": 30001}]});
    service(&h, "a", spec).await;
    let node = json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.42.3.0/24"}});
    h.create(&NODE, None, node).await;
    let store = h.store.clone();
    h.stop().await;
    // As the earlier version would have left it.
    let below = |prefix: &str| Op::Delete {
        key: prefix.to_string().into(),
        range_end: Some(format!("{}0", prefix.trim_end_matches('/')).into()),
    };
    write(&store, [CLAIMS, "/registry/ipaddresses/", "/registry/servicecidrs/"].map(below).into()).await;
    let h = Harness::over(store, config()).await;
    let made = h.get(&IP_ADDRESS, None, "10.43.7.7").await.unwrap();
    assert_eq!(made["spec"]["parentRef"]["name"], "a");
    h.get(&IP_ADDRESS, None, "10.43.0.1").await.unwrap();
    assert_eq!(claims(&h), ["nodeports/30001", "nodeports/30002", "podcidrs/ipv4/010.042.003.000/24"]);
    let events = h.api.list(&EVENT, HERE, &ListOptions::default()).await.unwrap();
    assert!(events.items.is_empty(), "nothing was broken");
    h.delete(&SERVICE, HERE, "a").await.unwrap();
    h.delete(&NODE, None, "n").await.unwrap();
    assert_eq!(claims(&h), [""; 0]);
    h.stop().await;
}

#[tokio::test]
async fn what_is_missing_is_made_and_what_leaked_is_removed_when_it_is_seen_twice() {
    let h = Harness::start().await;
    service(&h, "a", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]})).await;
    let node = |name: &str, range: &str| json!({"metadata": {"name": name}, "spec": {"podCIDR": range}});
    h.create(&NODE, None, node("n", "10.42.3.0/24")).await;
    let range = "10.42.9.0/24".parse().unwrap();
    let of = |name: &str| json!({"resource": "services", "namespace": "default", "name": name});
    let ops = vec![
        delete(node_ports::key(30001)),
        delete(pod_ranges::key(&"10.42.3.0/24".parse().unwrap())),
        put(node_ports::key(30002), &of("a")),
        put(node_ports::key(30003), &of("gone")),
        put(pod_ranges::key(&range), &json!({"resource": "nodes", "name": "n"})),
        put(node_ports::key(30004), &json!("?")),
    ];
    write(&h.store, ops).await;
    let mut suspects = Suspects::new();
    repair_once(&h, &mut suspects).await;
    let leaked = ["nodeports/30002", "nodeports/30003", "nodeports/30004"];
    let (port, subnet) = ("nodeports/30001", "podcidrs/ipv4/010.042.003.000/24");
    let other = "podcidrs/ipv4/010.042.009.000/24";
    assert_eq!(claims(&h), [port, leaked[0], leaked[1], leaked[2], subnet, other]);
    // One that is used in time stays.
    service(&h, "gone", json!({"type": "ClusterIP", "ports": [{"port": 80}]})).await;
    repair_once(&h, &mut suspects).await;
    assert_eq!(claims(&h), [port, subnet]);
    h.stop().await;
}

#[tokio::test]
async fn a_leak_that_found_its_object_meanwhile_stays() {
    let h = Harness::start().await;
    let made =
        service(&h, "a", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]})).await;
    assert_eq!(made["ports"][0]["nodePort"], 30001);
    let registry = &h.server.registry;
    let record = registry.records().get(&node_ports::key(30001)).unwrap();
    // As if the service had not been there when the record was looked at.
    let mut step = RepairStep::default();
    step.claims.release(&record);
    let key = SERVICE.storage_key(HERE, "a").unwrap();
    RepairPass::new(registry, None).carry_out(key, 0, step).await.unwrap();
    assert!(registry.records().get(&node_ports::key(30001)).is_some());
    h.stop().await;
}

#[tokio::test]
async fn addresses_with_wrong_parents_and_labels_are_set_right() {
    let h = Harness::start().await;
    let ports = json!([{"port": 80}]);
    for (name, ip) in [("a", "10.43.7.1"), ("b", "10.43.7.2"), ("c", "10.43.7.3")] {
        service(&h, name, json!({"clusterIP": ip, "ports": ports})).await;
    }
    let key = |ip: &str| ip_address::key(ip.parse().unwrap());
    let managed = json!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    let object = |name: &str, labels: &Value, parent: Value, created: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {"name": name, "uid": format!("uid of {name}"), "labels": labels, "creationTimestamp": created},
            "spec": {"parentRef": parent}})
    };
    let parent = |name: &str| json!({"resource": "services", "namespace": "default", "name": name});
    let now = crate::registry::time(jiff::Timestamp::now());
    let old = "2020-01-01T00:00:00Z";
    let ops = vec![
        put(key("10.43.7.1"), &object("10.43.7.1", &json!({}), parent("a"), old)),
        put(
            key("10.43.7.2"),
            &object("10.43.7.2", &managed, json!({"group": "g", "resource": "r", "name": "n"}), old),
        ),
        put(key("10.43.7.3"), &object("10.43.7.3", &managed, parent("gone"), old)),
        // Nobody's: an old one, one that its service may still follow, and one that the allocator did not
        // make.
        put(key("10.43.8.1"), &object("10.43.8.1", &managed, parent("gone"), old)),
        put(key("10.43.8.2"), &object("10.43.8.2", &managed, parent("gone"), &now)),
        put(key("10.43.8.3"), &object("10.43.8.3", &json!({}), parent("gone"), old)),
        put(key("10.43.8.4"), &object("10.43.8.4", &managed, parent("a"), old)),
    ];
    write(&h.store, ops).await;
    repair_once(&h, &mut Suspects::new()).await;
    for (name, ip) in [("a", "10.43.7.1"), ("b", "10.43.7.2"), ("c", "10.43.7.3")] {
        // The server's own repair may have been faster, and deleted it first.
        let found = address(&h, ip, |found| found["spec"]["parentRef"] == parent(name)).await;
        let labels = &found["metadata"]["labels"];
        assert_eq!(labels["ipaddress.kubernetes.io/ip-family"], "IPv4", "{ip}");
        assert_eq!(labels["ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io", "{ip}");
    }
    let there = async |ip: &str| h.get(&IP_ADDRESS, None, ip).await.is_ok();
    assert!(!there("10.43.8.1").await && there("10.43.8.2").await);
    assert!(there("10.43.8.3").await && !there("10.43.8.4").await);
    h.stop().await;
}

#[tokio::test]
async fn what_two_services_have_and_what_is_out_of_range_is_told() {
    let h = Harness::start().await;
    let spec =
        json!({"type": "NodePort", "clusterIP": "10.43.7.1", "ports": [{"port": 80, "nodePort": 30001}]});
    service(&h, "first", spec).await;
    let raw = |name: &str, ip: &str, port: u16| {
        let value = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"type": "NodePort", "clusterIP": ip, "clusterIPs": [ip],
                "ports": [{"port": 80, "protocol": "TCP", "nodePort": port}]}});
        put(SERVICE.storage_key(HERE, name).unwrap(), &value)
    };
    write(&h.store, vec![raw("second", "10.43.7.1", 30001), raw("third", "10.99.0.1", 99)]).await;
    let recorders = recorders(&h);
    let registry = h.server.registry.clone();
    run_pass(&mut RepairPass::new(&registry, Some(&recorders)), &mut Suspects::new()).await.unwrap();
    let mut events =
        crate::testing::Events(h.api.watch(&EVENT, HERE, &WatchOptions::default()).await.unwrap());
    let mut told = Vec::new();
    while told.len() < 4 {
        events.next().await;
        let list = h.api.list(&EVENT, HERE, &ListOptions::default()).await.unwrap();
        told = list
            .items
            .iter()
            .map(|object| object.tree().unwrap())
            .filter(|event| event["reportingComponent"] == "a" || event["reportingComponent"] == "p")
            .map(|event| {
                let part = |field: &str| event[field].as_str().unwrap().to_string();
                let about = event["involvedObject"]["name"].as_str().unwrap();
                format!("{about} {} {}: {}", part("reason"), part("action"), part("message"))
            })
            .collect();
    }
    told.sort();
    assert_eq!(
        told,
        [
            "second ClusterIPAlreadyAllocated ClusterIPAllocation: Cluster IP [IPv4]:10.43.7.1 was assigned to multiple services; please recreate service",
            "second PortAlreadyAllocated PortAllocation: Port 30001 was assigned to multiple services; please recreate service",
            "third ClusterIPOutOfRange ClusterIPAllocation: Cluster IP [IPv4]: 10.99.0.1 is not within any configured Service CIDR; please recreate service",
            "third PortOutOfRange PortAllocation: Port 99 is not within the port range 30000-32767; please recreate service",
        ]
    );
    // What the first has is still its own, also when the second goes.
    h.delete(&SERVICE, HERE, "second").await.unwrap();
    let address = h.get(&IP_ADDRESS, None, "10.43.7.1").await.unwrap();
    assert_eq!(address["spec"]["parentRef"]["name"], "first");
    assert_eq!(claims(&h), ["nodeports/30001", "nodeports/99"]);
    h.stop().await;
}

#[tokio::test]
async fn nothing_is_told_of_a_repair_that_did_not_come_about() {
    let h = Harness::start().await;
    for (name, ip, port) in [("a", "10.43.7.1", 30001), ("b", "10.43.7.2", 30002)] {
        let spec = json!({"type": "NodePort", "clusterIP": ip, "ports": [{"port": 80, "nodePort": port}]});
        service(&h, name, spec).await;
    }
    let registry = h.server.registry.clone();
    let overtaken = registry.caches.get(&SERVICE, HERE, "a").unwrap();
    let changed = api::Patch::merge(json!({"spec": {"sessionAffinity": "ClientIP"}}));
    let at = client::ObjectRef::new(HERE, "a");
    h.api.patch(&SERVICE, at, changed, &api::UpdateOptions::default()).await.unwrap();
    let lost = |ip: &str| delete(ip_address::key(ip.parse().unwrap()));
    let ops = vec![lost("10.43.7.1"), delete(node_ports::key(30001)), delete(node_ports::key(30002))];
    write(&h.store, ops).await;
    let recorders = recorders(&h);
    let mut pass = RepairPass::new(&registry, Some(&recorders));
    // Neither its address nor its port can be repaired on the strength of a version that is gone.
    pass.check_service(&overtaken).await.unwrap();
    assert_eq!((pass.done, claims(&h).len()), (0, 0));
    let current = registry.caches.get(&SERVICE, HERE, "b").unwrap();
    pass.check_service(&current).await.unwrap();
    // Events of one recorder come in order: what had been told of the other would be there by now.
    let mut events =
        crate::testing::Events(h.api.watch(&EVENT, HERE, &WatchOptions::default()).await.unwrap());
    loop {
        let list = h.api.list(&EVENT, HERE, &ListOptions::default()).await.unwrap();
        let trees = list.items.iter().map(|object| object.tree().unwrap());
        let told: Vec<(String, String)> = trees
            .filter(|event| event["reportingComponent"] == "p")
            .map(|event| {
                let part = |value: &Value| value.as_str().unwrap().to_string();
                (part(&event["involvedObject"]["name"]), part(&event["reason"]))
            })
            .collect();
        if !told.is_empty() {
            assert_eq!(told, [("b".to_string(), "PortNotAllocated".to_string())]);
            break;
        }
        events.next().await;
    }
    h.stop().await;
}

#[tokio::test]
async fn a_look_reads_each_object_once_and_gives_the_thread_back() {
    const SERVICES: usize = 20;
    const PORTS: usize = 10;
    let h = Harness::start().await;
    for number in 0..SERVICES {
        let port = |index: usize| json!({"name": format!("p{index}"), "port": 80 + index});
        let ports: Vec<Value> = (0..PORTS).map(port).collect();
        service(&h, &format!("s{number}"), json!({"type": "NodePort", "ports": ports})).await;
    }
    let registry = h.server.registry.clone();
    let mut pass = RepairPass::new(&registry, None);
    let mut suspects = Suspects::new();
    let mut turns = 0;
    {
        let mut whole = std::pin::pin!(run_pass(&mut pass, &mut suspects));
        std::future::poll_fn(|ctx| {
            turns += 1;
            whole.as_mut().poll(ctx)
        })
        .await
        .unwrap();
    }
    // That of the API server itself is among them.
    assert_eq!((pass.read, pass.done), (SERVICES + 1, 0));
    // Each service's records and their owners are looked at, in both directions.
    let looks = 2 * SERVICES * (PORTS + 1);
    assert!(turns > looks / RECORDS_AT_ONCE, "{turns} turns");
    h.stop().await;
}

#[tokio::test]
async fn a_service_with_the_older_field_only_keeps_its_address() {
    let h = Harness::start().await;
    let old = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "old", "namespace": "default", "uid": "old"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.43.7.1", "ports": [{"port": 80, "protocol": "TCP"}]}});
    write(&h.store, vec![put(SERVICE.storage_key(HERE, "old").unwrap(), &old)]).await;
    let mut suspects = Suspects::new();
    repair_once(&h, &mut suspects).await;
    let made = address(&h, "10.43.7.1", |found| found["spec"]["parentRef"]["name"] == "old").await;
    // It is not taken for one that leaked.
    repair_once(&h, &mut suspects).await;
    repair_once(&h, &mut suspects).await;
    let kept = h.get(&IP_ADDRESS, None, "10.43.7.1").await.unwrap();
    assert_eq!(kept["metadata"]["uid"], made["metadata"]["uid"]);
    h.stop().await;
}
