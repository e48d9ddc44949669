//! Manifests, good and bad, and what is shown of them.

use serde_json::json;

use super::manifest::{mirror, parse};
use super::*;
use crate::spec::is_static;

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
