//! Tests of slices: what they hold, and that repeated planning ends with what is wanted and then does
//! nothing.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn service(port: serde_json::Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "svc", "labels": {"app": "web"}},
        "spec": {"clusterIP": "10.43.0.7", "selector": {"app": "web"}, "ports": [port]},
    }))
    .unwrap()
}

fn numbered() -> Service {
    service(json!({"port": 80, "targetPort": 8080}))
}

fn pod(index: usize, ready: bool) -> Arc<Pod> {
    let ip = format!("10.42.{}.{}", index / 250, index % 250 + 1);
    let status = if ready { "True" } else { "False" };
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": format!("web-{index}"), "namespace": "ns", "uid": format!("uid-{index}")},
            "spec": {"nodeName": "one", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8000 + index % 2}]}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": status}]},
        }))
        .unwrap(),
    )
}

fn planned(service: &Service, pods: &[Arc<Pod>], present: &[Arc<EndpointSlice>]) -> SlicePlan {
    plan(service, pods, present, |node| Some(format!("zone-of-{node}")), None)
}

/// What is there after the plan was carried out.
fn carried_out(plan: SlicePlan, present: &[Arc<EndpointSlice>], made: &mut usize) -> Vec<Arc<EndpointSlice>> {
    let name = |slice: &EndpointSlice| slice.metadata.name.clone();
    let mut after: Vec<Arc<EndpointSlice>> = present
        .iter()
        .filter(|slice| !plan.delete.iter().any(|gone| name(gone) == name(slice)))
        .cloned()
        .collect();
    for updated in plan.update {
        let at = after.iter().position(|slice| name(slice) == name(&updated)).unwrap();
        after[at] = Arc::new(updated);
    }
    for mut slice in plan.create {
        *made += 1;
        slice.metadata.name = Some(format!("slice-{made}"));
        after.push(Arc::new(slice));
    }
    after
}

#[test]
fn a_slice_tells_everything_about_its_endpoints() {
    let plan = planned(&numbered(), &[pod(0, true), pod(1, false)], &[]);
    let [slice] = plan.create.as_slice() else { panic!("one slice") };
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
    assert_eq!(slice.address_type, "IPv4");
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(labels[SERVICE_NAME], "web");
    assert_eq!(labels["app"], "web");
    assert!(!labels.contains_key(HEADLESS));
    let owner = &slice.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Service", "svc", Some(true)));
    let endpoints = slice.endpoints.as_ref().unwrap();
    let ready: Vec<_> = endpoints.iter().map(|one| one.conditions.as_ref().unwrap().ready).collect();
    assert_eq!(ready, [Some(true), Some(false)]);
    assert_eq!(endpoints[0].zone.as_deref(), Some("zone-of-one"));
    assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
}

#[test]
fn terminating_pods_serve_but_are_not_ready() {
    let mut pod = (*pod(0, true)).clone();
    pod.metadata.deletion_timestamp = Some(api::time::seconds(Timestamp::UNIX_EPOCH));
    let plan = planned(&numbered(), &[Arc::new(pod)], &[]);
    let endpoint = &plan.create[0].endpoints.as_ref().unwrap()[0];
    let conditions = endpoint.conditions.as_ref().unwrap();
    assert_eq!(
        (conditions.ready, conditions.serving, conditions.terminating),
        (Some(false), Some(true), Some(true))
    );
}

#[test]
fn a_named_port_may_differ_by_pod() {
    let service = service(json!({"name": "http", "port": 80, "targetPort": "http"}));
    let plan = planned(&service, &[pod(0, true), pod(1, true)], &[]);
    let ports: BTreeSet<_> = plan.create.iter().map(|slice| slice.ports.as_ref().unwrap()[0].port).collect();
    assert_eq!(ports, [Some(8000), Some(8001)].into());
}

#[test]
fn a_service_without_pods_has_an_empty_slice() {
    let mut made = 0;
    let slices = carried_out(planned(&numbered(), &[], &[]), &[], &mut made);
    assert_eq!(slices.len(), 1);
    let again = planned(&numbered(), &[], &slices);
    assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
}

#[test]
fn one_change_writes_one_slice() {
    let mut pods: Vec<Arc<Pod>> = (0..250).map(|index| pod(index, true)).collect();
    let mut made = 0;
    let slices = carried_out(planned(&numbered(), &pods, &[]), &[], &mut made);
    assert_eq!(slices.len(), 3);
    pods[120] = pod(120, false);
    let plan = planned(&numbered(), &pods, &slices);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn planning_ends(histories in proptest::collection::vec(proptest::collection::vec((0usize..320, any::<bool>()), 0..300), 1..5)) {
        let service = numbered();
        let mut slices: Vec<Arc<EndpointSlice>> = Vec::new();
        let mut made = 0;
        for history in histories {
            let chosen: BTreeMap<usize, bool> = history.into_iter().collect();
            let pods: Vec<Arc<Pod>> = chosen.iter().map(|(index, ready)| pod(*index, *ready)).collect();
            slices = carried_out(planned(&service, &pods, &slices), &slices, &mut made);
            let mut held: Vec<String> = Vec::new();
            for slice in &slices {
                let endpoints = slice.endpoints.as_ref().unwrap();
                prop_assert!(endpoints.len() <= CAPACITY);
                held.extend(endpoints.iter().map(|one| one.target_ref.as_ref().unwrap().uid.clone().unwrap()));
            }
            held.sort();
            let mut wanted: Vec<String> = chosen.keys().map(|index| format!("uid-{index}")).collect();
            wanted.sort();
            prop_assert_eq!(held, wanted);
            let again = planned(&service, &pods, &slices);
            prop_assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
        }
    }
}

#[test]
fn hints_say_where_traffic_prefers_to_stay() {
    let hints = |close: Option<&str>, ready: bool| {
        let mut service = numbered();
        service.spec.as_mut().unwrap().traffic_distribution = close.map(str::to_string);
        let plan = planned(&service, &[pod(0, ready)], &[]);
        serde_json::to_value(&plan.create[0].endpoints.as_ref().unwrap()[0].hints).unwrap()
    };
    let zone = json!({"forZones": [{"name": "zone-of-one"}]});
    assert_eq!(hints(Some("PreferClose"), true), zone);
    assert_eq!(hints(Some("PreferSameZone"), true), zone);
    let both = json!({"forZones": [{"name": "zone-of-one"}], "forNodes": [{"name": "one"}]});
    assert_eq!(hints(Some("PreferSameNode"), true), both);
    assert_eq!(hints(Some("PreferSameNode"), false), json!(null), "only who is ready is preferred");
    assert_eq!(hints(None, true), json!(null));
    // A service that changes its mind changes its slices.
    let plan = planned(&numbered(), &[pod(0, true)], &[]);
    let present = carried_out(plan, &[], &mut 0);
    let mut close = numbered();
    close.spec.as_mut().unwrap().traffic_distribution = Some("PreferSameZone".to_string());
    assert_eq!(planned(&close, &[pod(0, true)], &present).update.len(), 1);
}
