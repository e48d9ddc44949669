//! Manifests, good and bad, and what is shown of them.

use client::{BoxFuture, Informers};
use serde_json::json;

use super::manifest::{mirror, parse};
use super::*;
use crate::spec::is_static;
use crate::testing::TestNode;

const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\nspec:\n  containers:\n  - {name: a, image: 'image:1'}\n";

fn fault(text: &str) -> String {
    parse(text.as_bytes(), "/m/f.yaml", "n").unwrap_err().to_string()
}

#[test]
fn a_manifest_becomes_a_pod_of_this_node() {
    let pod = parse(WEB.as_bytes(), "/m/web.yaml", "N1").unwrap();
    assert_eq!((pod.name(), pod.namespace()), ("web-n1", "default"));
    assert_eq!(pod.spec_ref().node_name.as_deref(), Some("N1"));
    assert_eq!(pod.spec_ref().termination_grace_period_seconds, Some(30), "the API's defaults");
    assert_eq!(annotation(&pod, HASH), Some(pod.uid()));
    assert!(is_static(&pod) && !is_mirror(&pod));
    let tolerations = pod.spec_ref().tolerations.clone().unwrap();
    assert_eq!(tolerations[0].effect.as_deref(), Some("NoExecute"));
    // The uid follows from what is written, and where.
    assert_eq!(parse(WEB.as_bytes(), "/m/web.yaml", "N1").unwrap().uid(), pod.uid());
    let other = WEB.replace("image:1", "image:2");
    assert_ne!(parse(other.as_bytes(), "/m/web.yaml", "N1").unwrap().uid(), pod.uid());
}

#[test]
fn what_cannot_be_run_is_said() {
    assert!(fault("kind: Pod").contains("not a v1 Pod"));
    assert_eq!(fault(&WEB.replace("{name: web, labels", "{labels")), "metadata.name: Required value");
    assert!(fault(&WEB.replace("image:", "imege:")).contains("unknown field \"spec.containers[0].imege\""));
    let account = format!("{WEB}  serviceAccountName: robot\n");
    assert_eq!(fault(&account), "static pods may not reference serviceaccounts");
    let volume = format!("{WEB}  volumes: [{{name: v, secret: {{secretName: s}}}}]\n");
    assert_eq!(fault(&volume), "static pods may not reference secrets");
    assert!(!fault("{").is_empty() && !fault("").is_empty());
}

#[test]
fn a_mirror_belongs_to_the_node() {
    let pod = parse(WEB.as_bytes(), "/m/web.yaml", "n").unwrap();
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n", "uid": "nu"}})).unwrap();
    let mirror = mirror(&pod, &node);
    assert!(is_mirror(&mirror) && !is_static(&mirror));
    assert_eq!(annotation(&mirror, MIRROR), Some(pod.uid()));
    assert_eq!(mirror.metadata.uid, None);
    let owner = &mirror.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()), ("Node", "n", "nu"));
}

#[test]
fn only_a_manifest_makes_a_pod_static() {
    let mut pod = parse(WEB.as_bytes(), "/m/web.yaml", "n").unwrap();
    assert!(is_static(&pod) && pod.is_critical());
    // The annotations are anybody's to write; the version is the API's.
    pod.metadata.resource_version = Some("7".to_string());
    assert!(!is_static(&pod) && !pod.is_critical());
    let read_before = WEB.replace("{name: web,", "{name: web, resourceVersion: '7',");
    assert!(is_static(&parse(read_before.as_bytes(), "/m/web.yaml", "n").unwrap()));
}

struct NoWorkers;

impl Workers for NoWorkers {
    fn begin(&self, _pod: Arc<Pod>) {}
    fn end(&self, _uid: &str) {}
    fn ended<'a>(&'a self, _uid: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
    fn wake(&self, _uid: &str, _reason: WakeReason) {}
}

#[tokio::test]
async fn a_forged_mirror_shows_itself_and_goes() {
    let pod = Arc::new(parse(WEB.as_bytes(), "/m/web.yaml", "n").unwrap());
    let node = TestNode::new();
    let object: Arc<Node> = node.agent.node.borrow().clone().unwrap();
    let put = |name: &str, namespace: &str| {
        let mut one = mirror(&pod, &object);
        one.metadata.name = Some(name.to_string());
        one.metadata.namespace = Some(namespace.to_string());
        one.metadata.uid = Some(format!("of-{name}"));
        node.api.put(&one);
        one
    };
    put("web-n", "default");
    put("forged", "default");
    let informer: Informer<Pod> = Informers::new(node.api.clone(), node.agent.stage.clone()).of();
    informer.synced().await;
    let statics = Statics::default();
    statics.0.lock().insert(pod.uid().to_string(), pod.clone());
    let elsewhere = put("web-n", "elsewhere");
    assert!(statics.of_mirror(&elsewhere).is_none());
    let pods = NodePods { informer, statics };
    assert_eq!(pods.get("default", "web-n").unwrap().uid(), pod.uid());
    assert_eq!(pods.get("default", "forged").unwrap().uid(), "of-forged");
    assert_eq!(pods.list().iter().filter(|one| one.uid() == pod.uid()).count(), 1);
    let keeper = StaticPods {
        directory: PathBuf::new(),
        node: node.agent.node.subscribe(),
        api: node.api.clone(),
        pods,
        recorder: node.agent.recorder.clone(),
        workers: Box::new(NoWorkers),
        changed: Arc::default(),
    };
    let manifests = Manifests { pods: [("web".to_string(), pod)].into(), faults: BTreeMap::new() };
    assert!(keeper.keep_mirrors(&manifests).await);
    assert!(!node.api.holds("forged") && node.api.holds("web-n"));
}
