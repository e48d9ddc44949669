//! Addresses, ports and the fields that hang together.

mod claims;

use std::collections::HashSet;

use api::kinds::{IP_ADDRESS, SERVICE};
use api::{ApiError, CreateOptions, DryRun, ListOptions, Patch, UpdateOptions};
use client::ObjectRef;
use serde_json::{Value, json};

use super::{fields, node_ports, validate};
use crate::claims::Records;
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
    assert!(
        outside.message().ends_with(
            "failed to allocate IP 10.44.0.1: the provided network does not match the current range"
        )
    );
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
            json!({"healthCheckNodePort": 30000}),
            "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        (
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
            "spec.healthCheckNodePort: Required value",
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

async fn patch(h: &Harness, name: &str, body: Value) -> Result<Value, ApiError> {
    let (at, options) = (ObjectRef::new(HERE, name), UpdateOptions::default());
    let done = h.api.patch(&SERVICE, at, Patch::merge(body), &options).await?;
    Ok(done.tree().unwrap())
}

/// What is claimed by services other than `kubernetes`: addresses, then node ports.
async fn claimed(h: &Harness) -> Vec<String> {
    let list = h.api.list(&IP_ADDRESS, None, &ListOptions::default()).await.unwrap();
    let addresses = list.items.iter().map(|one| one.tree().unwrap());
    let addresses = addresses.filter(|one| one["spec"]["parentRef"]["name"] != "kubernetes");
    let mut all: Vec<String> =
        addresses.map(|one| one["metadata"]["name"].as_str().unwrap().to_string()).collect();
    let registry = &h.server.registry;
    let ports = registry.records().below(&node_ports::prefix());
    all.extend(ports.iter().map(|record| node_ports::port_of(&record.key).unwrap().to_string()));
    all
}

fn number(value: &Value) -> String {
    value.as_u64().unwrap().to_string()
}

#[tokio::test]
async fn an_address_is_an_object_that_comes_and_goes_with_its_service() {
    let h = Harness::start().await;
    let before = embedded_store::Store::revision(&*h.store);
    let made = create(&h, service("a", json!({"clusterIP": "10.43.7.7"}))).await.unwrap();
    assert_eq!(embedded_store::Store::revision(&*h.store), before + 1, "one transaction");
    let address = h.get(&IP_ADDRESS, None, "10.43.7.7").await.unwrap();
    assert_eq!(address["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(
        address["spec"],
        json!({"parentRef": {"resource": "services", "namespace": "default", "name": "a"}})
    );
    assert_eq!(
        address["metadata"]["labels"],
        json!({
            "ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        })
    );
    let managed = &address["metadata"]["managedFields"][0];
    assert_eq!(
        [&managed["manager"], &managed["operation"], &managed["apiVersion"]],
        ["kube-apiserver", "Update", "networking.k8s.io/v1"]
    );
    assert!(managed["fieldsV1"]["f:spec"].get("f:parentRef").is_some(), "{managed}");
    h.delete(&SERVICE, HERE, "a").await.unwrap();
    assert_eq!(embedded_store::Store::revision(&*h.store), before + 2, "one transaction");
    assert!(h.get(&IP_ADDRESS, None, "10.43.7.7").await.unwrap_err().is_not_found());
    h.stop().await;
}

#[tokio::test]
async fn a_change_of_type_gives_back_what_the_new_type_has_not() {
    let h = Harness::start().await;
    let made = create(&h, service("a", json!({"type": "NodePort"}))).await.unwrap();
    let (address, port) = (made["spec"]["clusterIP"].clone(), made["spec"]["ports"][0]["nodePort"].clone());
    assert_eq!(claimed(&h).await, [address.as_str().unwrap(), &number(&port)]);
    patch(&h, "a", json!({"spec": {"type": "ClusterIP"}})).await.unwrap();
    assert_eq!(claimed(&h).await, [address.as_str().unwrap()]);
    patch(&h, "a", json!({"spec": {"type": "ExternalName", "externalName": "e.org"}})).await.unwrap();
    assert_eq!(claimed(&h).await, [""; 0]);
    let back =
        json!({"spec": {"type": "LoadBalancer", "externalName": null, "externalTrafficPolicy": "Local"}});
    let back = patch(&h, "a", back).await.unwrap();
    let spec = &back["spec"];
    let mut ports = [number(&spec["ports"][0]["nodePort"]), number(&spec["healthCheckNodePort"])];
    ports.sort();
    assert_ne!(ports[0], ports[1]);
    let want = [spec["clusterIP"].as_str().unwrap(), &ports[0], &ports[1]];
    assert_eq!(claimed(&h).await, want);
    let moved = patch(&h, "a", json!({"spec": {"healthCheckNodePort": 31999}})).await.unwrap_err();
    assert!(moved.message().contains("spec.healthCheckNodePort: Forbidden: field is immutable"), "{moved}");
    let cluster = patch(&h, "a", json!({"spec": {"externalTrafficPolicy": "Cluster"}})).await.unwrap();
    assert!(cluster["spec"].get("healthCheckNodePort").is_none());
    assert_eq!(claimed(&h).await.len(), 2);
    h.delete(&SERVICE, HERE, "a").await.unwrap();
    assert_eq!(claimed(&h).await, [""; 0]);
    h.stop().await;
}

#[tokio::test]
async fn the_last_finalizer_takes_the_claims_with_it() {
    let h = Harness::start().await;
    let mut body = service("a", json!({"type": "NodePort"}));
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    create(&h, body).await.unwrap();
    h.delete(&SERVICE, HERE, "a").await.unwrap();
    assert_eq!(claimed(&h).await.len(), 2, "it is held");
    patch(&h, "a", json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert!(h.get(&SERVICE, HERE, "a").await.unwrap_err().is_not_found());
    assert_eq!(claimed(&h).await, [""; 0]);
    h.stop().await;
}

#[tokio::test]
async fn a_rehearsal_claims_nothing() {
    let h = Harness::start().await;
    let options = CreateOptions { dry_run: DryRun::All, ..CreateOptions::default() };
    let body = service("a", json!({"type": "NodePort"}));
    let shown = h.api.create(&SERVICE, HERE, body, &options).await.unwrap().tree().unwrap();
    assert!(shown["spec"]["clusterIP"].is_string() && shown["spec"]["ports"][0]["nodePort"].is_u64());
    create(&h, service("b", json!({"type": "ExternalName", "externalName": "e.org"}))).await.unwrap();
    let options = UpdateOptions { dry_run: DryRun::All, ..UpdateOptions::default() };
    let to_port = Patch::merge(json!({"spec": {"type": "NodePort", "externalName": null}}));
    let at = ObjectRef::new(HERE, "b");
    let shown = h.api.patch(&SERVICE, at, to_port, &options).await.unwrap().tree().unwrap();
    assert!(shown["spec"]["clusterIP"].is_string());
    assert_eq!(claimed(&h).await, [""; 0]);
    h.stop().await;
}

#[tokio::test]
async fn node_ports_are_shared_and_refused_as_upstream_does() {
    let h = Harness::start().await;
    let ports = |list: Value| json!({"type": "NodePort", "ports": list});
    let both = create(
        &h,
        service(
            "dns",
            ports(json!([
                {"name": "tcp", "port": 53, "protocol": "TCP"},
                {"name": "udp", "port": 53, "protocol": "UDP", "nodePort": 30053},
            ])),
        ),
    );
    let both = both.await.unwrap();
    let given: Vec<&Value> =
        both["spec"]["ports"].as_array().unwrap().iter().map(|p| &p["nodePort"]).collect();
    assert_eq!(given, [30053, 30053], "two protocols of a port share a node port");
    let cases = [
        (
            json!([{"port": 80, "nodePort": 30053}]),
            "spec.ports[0].nodePort: Invalid value: 30053: provided port is already allocated",
        ),
        (
            json!([{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "protocol": "UDP", "nodePort": 30080}]),
            "spec.ports[1].nodePort: Invalid value: 30080: provided port is already allocated",
        ),
        (
            json!([{"port": 80, "nodePort": 80}]),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ];
    for (list, want) in cases {
        let refused = create(&h, service("x", ports(list))).await.unwrap_err();
        assert_eq!(refused.code(), 422);
        assert!(refused.message().contains(want), "{refused}");
    }
    let balancer =
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30053});
    let refused = create(&h, service("x", balancer)).await.unwrap_err();
    assert_eq!(refused.code(), 500);
    assert!(
        refused.message().ends_with(
            "failed to allocate requested HealthCheck NodePort 30053: provided port is already allocated"
        ),
        "{refused}"
    );
    let without = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
        "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30081}]});
    let made = create(&h, service("lb", without)).await.unwrap();
    assert!(made["spec"]["ports"][0].get("nodePort").is_none());
    assert_eq!(made["spec"]["ports"][1]["nodePort"], 30081);
    let taken = create(&h, service("x", ports(json!([{"port": 80, "nodePort": 30081}])))).await.unwrap_err();
    assert!(taken.message().ends_with("provided port is already allocated"), "{taken}");
    h.stop().await;
}

#[tokio::test]
async fn an_address_that_lost_its_object_is_not_given_to_another() {
    let mut config = crate::testing::config();
    config.service_cidr = "10.43.0.0/30".into();
    let h = Harness::with(config).await;
    // Two addresses: one is the `kubernetes` service's.
    create(&h, service("a", json!({}))).await.unwrap();
    // Past the API server, so that nobody is told and repairs it.
    let key = IP_ADDRESS.storage_key(None, "10.43.0.2").unwrap();
    let mut claims = crate::claims::Claims::default();
    claims.release(&h.server.registry.records().get(&key).unwrap());
    let txn = embedded_store::Txn { success: claims.writes().to_vec(), ..embedded_store::Txn::default() };
    embedded_store::Store::txn(&*h.store, txn).await.unwrap();
    for asked in [json!({}), json!({"clusterIP": "10.43.0.2"})] {
        create(&h, service("b", asked)).await.unwrap_err();
    }
    h.stop().await;
}

#[tokio::test]
async fn an_update_of_nothing_makes_a_service_with_its_claims() {
    let h = Harness::start().await;
    let (at, options) = (ObjectRef::new(HERE, "a"), UpdateOptions::default());
    let made = h.api.update(&SERVICE, at, service("a", json!({"type": "NodePort"})), &options).await.unwrap();
    let spec = made.tree().unwrap()["spec"].clone();
    let want =
        [spec["clusterIP"].as_str().unwrap(), &number(&spec["ports"][0]["nodePort"])].map(str::to_string);
    assert_eq!(claimed(&h).await, want);
    h.stop().await;
}

#[tokio::test]
async fn a_service_takes_no_address_beside_its_own() {
    let h = Harness::start().await;
    let message = |error: ApiError| error.to_string();
    for (asked, fault) in [
        (json!({"clusterIPs": ["10.43.9.1", "10.43.9.2"]}), "no more than one IP for each IP family"),
        (json!({"clusterIPs": ["10.43.9.1", "10.43.9.2", "10.43.9.3"]}), "may only hold up to 2 values"),
        (json!({"ipFamilies": ["IPv4", "IPv4"]}), "Duplicate value: \"IPv4\""),
        (
            json!({"clusterIPs": ["fd00::1"], "ipFamilies": ["IPv4"]}),
            "IPv6 is not configured on this cluster",
        ),
    ] {
        let error = message(create(&h, service("a", asked.clone())).await.unwrap_err());
        assert!(error.contains(fault), "{asked}: {error}");
    }
    let made = create(&h, service("a", json!({}))).await.unwrap();
    let own = made["spec"]["clusterIP"].as_str().unwrap();
    // The API server's own address, one of outside, and too many.
    let lists = [json!([own, "10.43.0.1"]), json!([own, "8.8.8.8"]), json!([own, "fd00::1"]), json!([])];
    for list in lists {
        let mut changed = made.clone();
        changed["spec"]["clusterIPs"] = list.clone();
        let at = ObjectRef::new(HERE, "a");
        let refused = h.api.update(&SERVICE, at, changed, &UpdateOptions::default()).await;
        // An update that names no address at all keeps those that are there.
        assert!(refused.is_err() || list == json!([]), "{list}");
    }
    assert_eq!(h.get(&SERVICE, HERE, "a").await.unwrap()["spec"]["clusterIPs"], json!([own]));
    h.stop().await;
}

#[test]
fn the_second_address_of_a_service_may_only_come_and_go() {
    let of = |ips: Value, policy: &str| json!({"spec": {"clusterIPs": ips, "ipFamilyPolicy": policy}});
    let two = of(json!(["10.43.9.1", "fd00::1"]), "PreferDualStack");
    let faults =
        |new: &Value| validate::update(new, &two).into_iter().map(|one| one.to_string()).collect::<Vec<_>>();
    assert!(faults(&of(json!(["10.43.9.1"]), "SingleStack")).is_empty());
    let taken = faults(&of(json!(["10.43.9.1", "fd00::2"]), "PreferDualStack"));
    assert!(taken.len() == 1 && taken[0].contains("may not change once set"), "{taken:?}");
    let kept = faults(&of(json!(["10.43.9.1"]), "PreferDualStack"));
    assert!(kept.len() == 1 && kept[0].contains("must be set to 'SingleStack'"), "{kept:?}");
}
