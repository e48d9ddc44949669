//! Measurements as clients see them, of nodes that answer, lie or do not answer.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use client::{BoxFuture, ByteStream, NodeDialer, ObjectRef};
use http::{Request, Response};
use hyper::service::service_fn;
use parking_lot::Mutex;

use super::*;
use crate::Config;
use crate::http::{Peer, handle};
use crate::testing::{Harness, config, master, pod};

/// Node `n1` answers with what is in it; others cannot be reached. How often it was asked is counted.
#[derive(Default)]
struct Kubelet(Arc<Mutex<Value>>, Arc<AtomicUsize>);

impl NodeDialer for Kubelet {
    #[expect(clippy::disallowed_methods, reason = "the double ends with the test's runtime")]
    fn dial<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        let reachable = node.metadata.name.as_deref() == Some("n1");
        let answer = self.0.lock().to_string();
        self.1.fetch_add(usize::from(reachable), Ordering::SeqCst);
        Box::pin(async move {
            if !reachable {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
            }
            let (near, far) = tokio::io::duplex(4096);
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let answer = answer.clone();
                async move {
                    assert_eq!(request.uri(), "/stats/summary?only_cpu_and_memory=true");
                    Ok::<_, std::convert::Infallible>(Response::new(Body::from(answer)))
                }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
            tokio::spawn(connection);
            Ok(Box::new(near) as Box<dyn ByteStream>)
        })
    }
}

fn used(cpu: u64, memory: u64) -> Value {
    json!({
        "cpu": {"time": "2026-01-01T00:00:00Z", "usageNanoCores": cpu},
        "memory": {"workingSetBytes": memory},
    })
}

async fn get(h: &Harness, path: &str) -> (u16, Value) {
    let peer = Arc::new(Peer::in_process(Some(master()), Default::default()));
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = handle(h.server.clone(), peer, request).await;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap())
}

/// Two nodes with a running pod each; gives the pods' uids.
async fn start(kubelet: Kubelet) -> (Harness, [String; 2]) {
    let h = Harness::with(Config { node_dialer: Arc::new(kubelet), ..config() }).await;
    h.create(&api::kinds::SERVICE_ACCOUNT, Some("default"), json!({"metadata": {"name": "default"}})).await;
    let mut uids = Vec::new();
    for (name, node) in [("p", "n1"), ("lost", "n2")] {
        h.create(&NODE, None, json!({"metadata": {"name": node, "labels": {"node": node}}})).await;
        let made = h.create(&POD, Some("default"), pod(name)).await;
        uids.push(made.uid().to_string());
        let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
        let at = ObjectRef::new(Some("default"), name).sub("binding");
        h.api.create_sub(&POD, at, binding, &api::CreateOptions::default()).await.unwrap();
        let patch = api::Patch::merge(json!({"status": {"phase": "Running"}}));
        let at = ObjectRef::new(Some("default"), name).sub("status");
        h.api.patch(&POD, at, patch, &api::UpdateOptions::default()).await.unwrap();
    }
    (h, [uids.remove(0), uids.remove(0)])
}

#[tokio::test]
async fn what_kubelets_measure_is_shown_of_their_own_pods_only() {
    let kubelet = Kubelet::default();
    let said = kubelet.0.clone();
    let (h, [own, other]) = start(kubelet).await;
    let of = |uid: &str| {
        let mut container = used(2_500_000, 5 << 20);
        container["name"] = json!("c");
        json!({"podRef": {"uid": uid}, "containers": [container]})
    };
    // A node that speaks for another's pod is not heard.
    *said.lock() = json!({"node": used(1_000_000_000, 1 << 30), "pods": [of(&own), of(&other)]});
    let (code, nodes) = get(&h, "/apis/metrics.k8s.io/v1beta1/nodes").await;
    assert_eq!((code, nodes["kind"].as_str()), (200, Some("NodeMetricsList")));
    assert_eq!(nodes["items"].as_array().unwrap().len(), 1, "the other cannot be reached");
    let node = &nodes["items"][0];
    assert_eq!(node["usage"], json!({"cpu": "1000000000n", "memory": "1048576Ki"}));
    assert_eq!(
        (&node["metadata"]["name"], &node["metadata"]["labels"]["node"]),
        (&json!("n1"), &json!("n1"))
    );
    let (_, pods) = get(&h, "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods").await;
    assert_eq!(pods["items"].as_array().unwrap().len(), 1);
    let containers = &pods["items"][0]["containers"];
    assert_eq!(containers, &json!([{"name": "c", "usage": {"cpu": "2500000n", "memory": "5120Ki"}}]));
    assert_eq!(get(&h, "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/p").await.0, 200);
    assert_eq!(get(&h, "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/lost").await.0, 404);
    assert_eq!(get(&h, "/apis/metrics.k8s.io/v1beta1/nodes/none").await.0, 404);
    let (_, none) = get(&h, "/apis/metrics.k8s.io/v1beta1/nodes?labelSelector=node%3Dn2").await;
    assert!(none["items"].as_array().unwrap().is_empty());
    let (code, _) = get(&h, "/apis/metrics.k8s.io/v1beta1/pods?fieldSelector=spec.nodeName%3Dn1").await;
    assert_eq!(code, 400);
    h.stop().await;
}

#[tokio::test]
async fn a_node_that_says_nothing_useful_is_left_out() {
    let mut large = json!({"node": used(1, 1), "pods": []});
    large["more"] = json!("x".repeat(LARGEST));
    let broken =
        [json!(null), json!("text"), json!({"node": {"cpu": {}}}), json!({"node": 1, "pods": 2}), large];
    for rubbish in broken {
        let (h, _) = start(Kubelet(Arc::new(Mutex::new(rubbish)), Arc::default())).await;
        let (code, nodes) = get(&h, "/apis/metrics.k8s.io/v1beta1/nodes").await;
        assert_eq!((code, nodes["items"].as_array().unwrap().len()), (200, 0));
        let (code, pods) = get(&h, "/apis/metrics.k8s.io/v1beta1/pods").await;
        assert_eq!((code, pods["items"].as_array().unwrap().len()), (200, 0));
        h.stop().await;
    }
}

#[tokio::test]
async fn a_node_is_asked_once_however_many_want_to_know() {
    let kubelet = Kubelet::default();
    let (said, asked) = (kubelet.0.clone(), kubelet.1.clone());
    let (h, _) = start(kubelet).await;
    *said.lock() = json!({"node": used(1_000_000_000, 1 << 30), "more": {"than": "is shown"}});
    let reads = (0..20).map(|_| get(&h, "/apis/metrics.k8s.io/v1beta1/nodes"));
    for (code, nodes) in join_all(reads).await {
        assert_eq!((code, nodes["items"].as_array().unwrap().len()), (200, 1));
    }
    get(&h, "/apis/metrics.k8s.io/v1beta1/pods").await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    tokio::time::pause();
    tokio::time::advance(KEPT).await;
    tokio::time::resume();
    assert_eq!(get(&h, "/apis/metrics.k8s.io/v1beta1/nodes/n1").await.0, 200);
    assert_eq!(asked.load(Ordering::SeqCst), 2, "what is old is asked again");
    h.stop().await;
}
