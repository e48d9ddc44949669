//! The loop over a machine that writes down what it is asked for, and the gate that pods wait at.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::*;
use crate::testing::RecordingHost;

fn policy(name: &str, new: bool, spec: Value) -> Change<NetworkPolicy> {
    let object = json!({"metadata": {"namespace": "a", "name": name}, "spec": spec});
    let object = Arc::new(serde_json::from_value(object).unwrap());
    match new {
        true => Change { old: None, new: Some(object) },
        false => Change { old: Some(object), new: None },
    }
}

fn pod(name: &str, address: Option<&str>) -> Pod {
    let mut pod = json!({
        "metadata": {"namespace": "a", "name": name, "uid": name, "labels": {"app": name}},
        "spec": {"nodeName": "one", "containers": []},
    });
    if let Some(address) = address {
        pod["status"] = json!({"podIP": address, "podIPs": [{"ip": address}]});
    }
    serde_json::from_value(pod).unwrap()
}

fn new_pod(pod: &Pod) -> Change<Pod> {
    Change { old: None, new: Some(Arc::new(pod.clone())) }
}

fn loop_on(host: &Arc<RecordingHost>) -> (Policies, Arc<Inputs>) {
    let inputs = Arc::new(Inputs::new("one"));
    let host: Arc<dyn Host> = host.clone();
    let dns = vec!["10.43.0.10".parse().unwrap()];
    (Policies::new(host, "minik8s", dns, inputs.clone()), inputs)
}

#[tokio::test]
async fn a_round_is_one_transaction_and_a_failure_begins_anew() {
    let host = Arc::new(RecordingHost::default());
    let (mut policies, inputs) = loop_on(&host);
    inputs.take_policy(&policy("deny", true, json!({"podSelector": {}})));
    policies.begin();
    inputs.take_pod(&new_pod(&pod("first", Some("10.42.0.5"))));
    policies.pass().await.unwrap();
    let script = host.scripts().pop().unwrap();
    assert!(script.starts_with("add table ip minik8s_policy\ndelete table ip minik8s_policy\n"), "{script}");
    assert!(
        script.contains("add element ip minik8s_policy ingress-pods { 10.42.0.5 : jump in-0 }"),
        "{script}"
    );
    assert!(script.contains("add element ip minik8s_policy on-node { 10.43.0.10 }"), "{script}");

    // Another pod is two elements.
    inputs.take_pod(&new_pod(&pod("second", Some("10.42.0.6"))));
    assert_eq!(policies.pass().await.unwrap(), 2);
    assert_eq!(
        host.scripts(),
        ["add element ip minik8s_policy ingress-pods { 10.42.0.6 : jump in-0 }\n\
          add element ip minik8s_policy selves { 10.42.0.6 . 10.42.0.6 }\n"]
    );
    assert_eq!(policies.pass().await.unwrap(), 0);
    assert!(host.scripts().is_empty(), "nothing to say");

    // Neither netlink nor nft works: everything anew.
    host.fail("elements", 1);
    host.fail("nft", 1);
    inputs.take_pod(&new_pod(&pod("third", Some("10.42.0.7"))));
    assert!(policies.pass().await.is_err());
    host.scripts();
    policies.pass().await.unwrap();
    let script = host.scripts().pop().unwrap();
    assert!(script.contains("delete table") && script.contains("10.42.0.7 : jump in-0"), "{script}");
    // Somebody has emptied it.
    inputs.tell_lost();
    policies.pass().await.unwrap();
    assert!(host.scripts().pop().unwrap().contains("delete table"));
}

#[tokio::test]
async fn a_table_that_is_too_small_is_made_anew() {
    let host = Arc::new(RecordingHost::default());
    let (mut policies, inputs) = loop_on(&host);
    inputs.take_policy(&policy("deny", true, json!({"podSelector": {}})));
    policies.begin();
    policies.pass().await.unwrap();
    assert!(host.scripts().pop().unwrap().contains("chain in-15 {"));
    for number in 0..20 {
        let name = format!("pod{number}");
        let own = json!({"podSelector": {"matchLabels": {"app": name}}});
        inputs.take_policy(&policy(&name, true, own));
        inputs.take_pod(&new_pod(&pod(&name, Some(&format!("10.42.0.{}", number + 2)))));
    }
    policies.pass().await.unwrap();
    let script = host.scripts().pop().unwrap();
    assert!(script.contains("delete table") && script.contains("chain in-31 {"), "{script}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_its_rules_and_for_nobody_elses() {
    let host = Arc::new(RecordingHost::default());
    let (mut policies, inputs) = loop_on(&host);
    let gate = PolicyGate { inputs: inputs.clone() };
    let addresses = ["10.42.0.5".to_string()];
    assert!(gate.ready(&pod("any", None), &addresses).await.is_err(), "policies are not known yet");
    let mut from_file = pod("any", None);
    from_file.metadata.annotations = Some([(SOURCE.to_string(), "file".to_string())].into());
    gate.ready(&from_file, &addresses).await.unwrap();
    from_file.metadata.resource_version = Some("5".to_string());
    assert!(gate.ready(&from_file, &addresses).await.is_err(), "it comes from the API");
    inputs.tell_synced();
    gate.ready(&pod("any", None), &addresses).await.unwrap();
    inputs.take_policy(&policy("deny", true, json!({"podSelector": {"matchLabels": {"app": "closed"}}})));
    gate.ready(&pod("open", None), &addresses).await.unwrap();

    let closed = pod("closed", None);
    assert!(gate.ready(&closed, &addresses).await.is_err(), "the loop does nothing");
    policies.begin();
    // What the informer says of it is older.
    inputs.take_pod(&new_pod(&closed));
    let passes = async {
        inputs.changed().await;
        policies.pass().await.unwrap();
        assert!(host.scripts().pop().unwrap().contains("ingress-pods { 10.42.0.5 : jump in-0 }"));
    };
    let (opened, ()) = tokio::join!(gate.ready(&closed, &addresses), passes);
    opened.unwrap();

    // Its status comes to the same; once it has ended nothing is left.
    let told = pod("closed", Some("10.42.0.5"));
    inputs.take_pod(&Change { old: Some(Arc::new(closed)), new: Some(Arc::new(told.clone())) });
    assert_eq!(policies.pass().await.unwrap(), 0);
    inputs.take_pod(&Change { old: Some(Arc::new(told)), new: None });
    assert_eq!(policies.pass().await.unwrap(), 2);
}

#[tokio::test]
async fn policies_mean_the_dns_of_the_node() {
    let host = Arc::new(RecordingHost::default());
    let (mut policies, inputs) = loop_on(&host);
    let to_dns = json!({
        "podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{
            "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
            "ports": [{"protocol": "UDP", "port": 53}],
        }],
    });
    inputs.take_policy(&policy("dns", true, to_dns));
    policies.begin();
    let namespace = json!({"metadata": {"name": "kube-system"}});
    inputs.take_namespace(&Change { old: None, new: serde_json::from_value(namespace).unwrap() });
    inputs.take_pod(&new_pod(&pod("first", Some("10.42.0.5"))));
    policies.pass().await.unwrap();
    let script = host.scripts().pop().unwrap();
    assert!(script.contains("egress-ports { 0 . 10.43.0.10 . udp . 53 }"), "{script}");
}
