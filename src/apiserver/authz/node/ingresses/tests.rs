//! Which secrets a node may read because of ingresses.

use api::kinds::{INGRESS, INGRESS_CLASS, SECRET};
use api::{FieldSelector, Identity, ListOptions};
use client::{ApiFor, ObjectRef};
use serde_json::{Value, json};

use crate::testing::Harness;

fn ingress(name: &str, class: &str, secret: &str) -> Value {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    json!({
        "metadata": {"name": name},
        "spec": {"ingressClassName": class, "defaultBackend": backend, "tls": [{"secretName": secret}]},
    })
}

#[tokio::test]
async fn a_node_reads_what_ingresses_of_ours_show_and_no_other_secret() {
    let h = Harness::start().await;
    let node = h.server.as_user(Identity::node("n"));
    for (name, controller) in [("minik8s", "minik8s.io/ingress"), ("nginx", "k8s.io/ingress-nginx")] {
        let class = json!({"metadata": {"name": name}, "spec": {"controller": controller}});
        h.create(&INGRESS_CLASS, None, class).await;
    }
    let pair = json!({"tls.crt": "", "tls.key": ""});
    for (name, kind) in [
        ("shown", "kubernetes.io/tls"),
        ("theirs", "kubernetes.io/tls"),
        ("opaque", "Opaque"),
        ("alone", "kubernetes.io/tls"),
    ] {
        h.create(&SECRET, Some("default"), json!({"metadata": {"name": name}, "type": kind, "data": pair}))
            .await;
    }
    for (name, class, secret) in [
        ("a", "minik8s", "shown"),
        ("b", "nginx", "theirs"),
        ("c", "minik8s", "opaque"),
        ("d", "minik8s", "later"),
    ] {
        h.create(&INGRESS, Some("default"), ingress(name, class, secret)).await;
    }
    let code = async |namespace: &str, name: &str| {
        node.get(&SECRET, ObjectRef::new(Some(namespace), name)).await.err().map(|error| error.code())
    };
    assert_eq!(code("default", "shown").await, None);
    assert_eq!(code("default", "later").await, Some(404), "it may be waited for");
    for name in ["theirs", "opaque", "alone"] {
        assert_eq!(code("default", name).await, Some(403), "{name}");
    }
    assert_eq!(code("kube-system", "shown").await, Some(403), "another namespace's");
    let list = |fields| ListOptions { fields, ..ListOptions::default() };
    let named = list(FieldSelector::equals("metadata.name", "shown"));
    assert_eq!(node.list(&SECRET, Some("default"), &named).await.unwrap().items.len(), 1);
    assert!(node.list(&SECRET, Some("default"), &list(FieldSelector::default())).await.is_err());

    // The index of who names a secret follows the ingresses.
    let named = |name: &str| {
        let caches = &h.server.registry.caches;
        let found = caches.referring(&INGRESS, Some("default"), name);
        found.iter().map(|ingress| ingress.name().to_string()).collect::<Vec<_>>()
    };
    assert_eq!((named("shown"), named("alone")), (vec!["a".to_string()], vec![]));
    h.delete(&INGRESS, Some("default"), "a").await.unwrap();
    h.create(&INGRESS, Some("default"), ingress("e", "minik8s", "alone")).await;
    assert_eq!((named("shown"), named("alone")), (vec![], vec!["e".to_string()]));
    assert_eq!(code("default", "shown").await, Some(403), "nobody names it any more");
    assert_eq!(code("default", "alone").await, None);
    h.stop().await;
}
