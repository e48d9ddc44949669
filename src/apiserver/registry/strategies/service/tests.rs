//! Addresses, ports and the fields that hang together.

use std::collections::HashSet;
use std::sync::Arc;

use api::kinds::SERVICE;
use api::{ApiError, CreateOptions, KindRow, Object, Patch, UpdateOptions};
use client::ObjectRef;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::allocate::Range;
use super::{allocate, fields, validate};
use crate::strategy::{CachedObjects, RequestContext, Reservation};
use crate::testing::Harness;

const HERE: Option<&str> = Some("default");

fn service(name: &str, spec: Value) -> Value {
    let mut body =
        json!({"metadata": {"name": name}, "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}});
    body["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    body
}

async fn create(h: &Harness, body: Value) -> Result<Value, ApiError> {
    Ok(h.api.create(&SERVICE, HERE, body, &CreateOptions::default()).await?.tree().unwrap())
}

#[test]
fn ranges_leave_out_network_and_broadcast() {
    let range = Range::parse("10.43.0.0/30").unwrap();
    assert_eq!(range.nth(0).to_string(), "10.43.0.1");
    let inside = |text: &str| range.contains(text.parse().unwrap());
    assert_eq!(
        ["10.43.0.0", "10.43.0.1", "10.43.0.2", "10.43.0.3", "::1"].map(inside),
        [false, true, true, false, false]
    );
    for bad in ["", "10.43.0.0", "10.43.0.0/33", "x/8"] {
        assert_eq!(Range::parse(bad), None, "{bad}");
    }
    assert!(!Range::parse("10.0.0.0/32").unwrap().contains("10.0.0.0".parse().unwrap()));
    assert!(Range::parse("0.0.0.0/0").unwrap().contains("10.0.0.0".parse().unwrap()));
    assert!(Range::parse("fd00::/112").unwrap().contains("fd00::5".parse().unwrap()));
}

#[tokio::test]
async fn every_service_gets_an_address_of_its_own() {
    let h = Harness::start().await;
    let made =
        futures::future::join_all((0..50).map(|index| create(&h, service(&format!("s{index}"), json!({})))))
            .await;
    let addresses: HashSet<String> =
        made.into_iter().map(|one| one.unwrap()["spec"]["clusterIP"].as_str().unwrap().to_string()).collect();
    assert_eq!(addresses.len(), 50);
    assert!(addresses.iter().all(|one| one.starts_with("10.43.")));
    let one = h.get(&SERVICE, HERE, "s0").await.unwrap();
    let spec = &one["spec"];
    assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
    assert_eq!(
        [&spec["type"], &spec["sessionAffinity"], &spec["internalTrafficPolicy"], &spec["ipFamilyPolicy"]],
        ["ClusterIP", "None", "Cluster", "SingleStack"]
    );
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec["ports"], json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
    assert_eq!(one["status"], json!({"loadBalancer": {}}));
    h.stop().await;
}

#[tokio::test]
async fn addresses_can_be_asked_for_once() {
    let h = Harness::start().await;
    let wanted = json!({"clusterIP": "10.43.7.7"});
    let made = create(&h, service("a", wanted.clone())).await.unwrap();
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.43.7.7"]));
    let taken = create(&h, service("b", wanted.clone())).await.unwrap_err();
    assert_eq!(
        taken.message(),
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.43.7.7\"]: failed to allocate IP 10.43.7.7: provided IP is already allocated"
    );
    let outside = create(&h, service("c", json!({"clusterIP": "10.44.0.1"}))).await.unwrap_err();
    assert!(outside.message().ends_with(
        "failed to allocate IP 10.44.0.1: provided IP is not in the valid range. The range of valid IPs is 10.43.0.0/16"
    ));
    let garbage = create(&h, service("d", json!({"clusterIP": "nope"}))).await.unwrap_err();
    assert!(
        garbage.message().contains("spec.clusterIPs[0]: Invalid value: \"nope\": must be a valid IP address"),
        "{garbage}"
    );
    h.delete(&SERVICE, HERE, "a").await.ok();
    create(&h, service("b", wanted)).await.unwrap();
    let headless = create(&h, service("e", json!({"clusterIP": "None"}))).await.unwrap();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    h.stop().await;
}

#[tokio::test]
async fn an_address_stays_while_the_type_changes() {
    let h = Harness::start().await;
    let made = create(&h, service("a", json!({}))).await.unwrap();
    let address = made["spec"]["clusterIP"].clone();
    let patch = |body: Value| {
        let (h, patch) = (&h, Patch::merge(body));
        async move {
            let done =
                h.api.patch(&SERVICE, ObjectRef::new(HERE, "a"), patch, &UpdateOptions::default()).await;
            done.map(|object| object.tree().unwrap())
        }
    };
    let moved =
        patch(json!({"spec": {"clusterIP": "10.43.9.9", "clusterIPs": ["10.43.9.9"]}})).await.unwrap_err();
    assert!(
        moved
            .message()
            .contains("spec.clusterIPs[0]: Invalid value: [\"10.43.9.9\"]: may not change once set"),
        "{moved}"
    );
    let exposed = patch(json!({"spec": {"type": "NodePort"}})).await.unwrap();
    assert_eq!(exposed["spec"]["clusterIP"], address);
    let port = exposed["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port));
    assert_eq!(exposed["spec"]["externalTrafficPolicy"], "Cluster");
    let kept = patch(json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}]}})).await.unwrap();
    assert_eq!(kept["spec"]["ports"][0]["nodePort"], port, "an update that leaves it out keeps it");
    let taken =
        create(&h, service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]})))
            .await;
    assert!(taken.unwrap_err().message().ends_with("provided port is already allocated"));
    let inner = patch(json!({"spec": {"type": "ClusterIP"}})).await.unwrap();
    assert!(inner["spec"]["ports"][0].get("nodePort").is_none());
    assert!(inner["spec"].get("externalTrafficPolicy").is_none());
    let named =
        patch(json!({"spec": {"type": "ExternalName", "externalName": "example.com"}})).await.unwrap();
    assert!(named["spec"].get("clusterIP").is_none() && named["spec"].get("ipFamilies").is_none(), "{named}");
    let back = patch(json!({"spec": {"type": "ClusterIP", "externalName": null}})).await.unwrap();
    assert!(back["spec"]["clusterIP"].as_str().unwrap().starts_with("10.43."));
    h.stop().await;
}

/// Faults of a spec as they are printed.
fn faults(spec: Value) -> Vec<String> {
    let mut tree = service("a", spec);
    api::schema::apply_defaults(&SERVICE, &mut tree);
    fields::normalize(&mut tree, None);
    fields::families(&mut tree);
    validate::service(&tree).iter().map(ToString::to_string).collect()
}

#[test]
fn faults_of_services() {
    assert_eq!(faults(json!({"clusterIP": "10.43.0.5"})), [""; 0]);
    let cases = [
        (json!({"ports": []}), "spec.ports: Required value"),
        (
            json!({"ports": [{"port": 0, "targetPort": 1}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (json!({"ports": [{"port": 80, "name": "a"}, {"port": 81}]}), "spec.ports[1].name: Required value"),
        (
            json!({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}),
            "spec.ports[1].name: Duplicate value: \"a\"",
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "ICMP"}]}),
            "spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({"type": "Odd"}),
            "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None"}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
        (json!({"type": "ExternalName"}), "spec.externalName: Required value"),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"externalTrafficPolicy": "Local"}),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
    ];
    for (spec, want) in cases {
        assert_eq!(faults(spec.clone()), [want], "{spec}");
    }
}

/// Caches into which another's write comes while they are read: its service is there and its ports are given back, but
/// the reader's list is the one from before.
#[derive(Default)]
struct Racing {
    services: Mutex<Vec<Arc<Object>>>,
    ending: Mutex<Option<(Arc<Object>, Reservation)>>,
}

impl CachedObjects for Racing {
    fn get(&self, _row: &KindRow, _namespace: Option<&str>, _name: &str) -> Option<Arc<Object>> {
        None
    }

    fn list(&self, _row: &KindRow, _namespace: Option<&str>) -> Vec<Arc<Object>> {
        let before = self.services.lock().clone();
        if let Some((service, reservation)) = self.ending.lock().take() {
            self.services.lock().push(service);
            drop(reservation);
        }
        before
    }

    fn indexed(&self, _row: &KindRow, _field: &str, _value: &str) -> Vec<Arc<Object>> {
        Vec::new()
    }
}

#[test]
fn a_node_port_is_given_once_though_a_write_ends_while_it_is_looked_for() {
    let (caches, config, user) = (Racing::default(), crate::testing::config(), crate::testing::master());
    let ctx = RequestContext {
        row: &SERVICE,
        namespace: HERE,
        subresource: None,
        user: &user,
        now: jiff::Timestamp::now(),
        dry_run: false,
        caches: &caches,
        config: &config,
    };
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    let mut first = service("first", spec.clone());
    let reservation = allocate::reserve(&ctx, &mut first, None).unwrap().unwrap();
    let stored = Arc::new(Object::from_tree(first, 1).unwrap());
    *caches.ending.lock() = Some((stored, reservation));
    let mut second = service("second", spec);
    let Err(error) = allocate::reserve(&ctx, &mut second, None) else { panic!("30080 was given twice") };
    assert!(error.message().ends_with("provided port is already allocated"), "{error}");
    let mut third = service("third", json!({"type": "NodePort"}));
    let held = allocate::reserve(&ctx, &mut third, None).unwrap();
    assert!(held.is_some() && third["spec"]["ports"][0]["nodePort"].is_u64());
}
