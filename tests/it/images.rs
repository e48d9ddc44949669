//! Images from a registry: whose they are.

use std::time::Duration;

use minik8s_tests::{Cluster, REGISTRY_PASSWORD, REGISTRY_USER, Registry, eventually};
use serde_json::json;

/// Applies a pod that runs an image, with a secret for its registry or without.
fn run_pod(cluster: &Cluster, name: &str, image: &str, secret: Option<&str>, policy: &str) {
    let secrets: Vec<_> = secret.iter().map(|name| json!({"name": name})).collect();
    let spec = json!({
        "imagePullSecrets": secrets,
        "containers": [{"name": "a", "image": image, "imagePullPolicy": policy}],
    });
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    cluster.kubectl_with(&["apply", "-f", "-"], &pod.to_string()).ok();
}

fn waits_for(cluster: &Cluster, name: &str, reasons: &[&str]) {
    let path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    eventually(&format!("{name} waits"), Duration::from_secs(60), || {
        let outcome = cluster.kubectl(&["get", "pod", name, "-o", path]);
        if reasons.contains(&outcome.stdout.as_str()) { Ok(()) } else { Err(outcome.to_string()) }
    });
}

#[test]
fn an_image_that_a_secret_opened_stays_closed_to_others() {
    let mut cluster = Cluster::with_node();
    let registry = Registry::start(&cluster.network);
    let server = format!("--docker-server={}", registry.address());
    for name in ["key", "same"] {
        let (user, password) =
            (format!("--docker-username={REGISTRY_USER}"), format!("--docker-password={REGISTRY_PASSWORD}"));
        cluster.kubectl(&["create", "secret", "docker-registry", name, &server, &user, &password]).ok();
    }
    let wrong = ["--docker-username=eve", "--docker-password=guess"];
    cluster.kubectl(&["create", "secret", "docker-registry", "wrong", &server, wrong[0], wrong[1]]).ok();
    let private = format!("{}/private/app:1", registry.address());
    run_pod(&cluster, "owner", &private, Some("key"), "IfNotPresent");
    cluster.wait_for_pod("owner");
    assert!(registry.asked().iter().any(|line| line.contains("private/app manifests 200")));

    // The same credentials open it without the registry, whatever the secret's name; others do not.
    run_pod(&cluster, "friend", &private, Some("same"), "IfNotPresent");
    run_pod(&cluster, "never", &private, Some("key"), "Never");
    cluster.wait_for_pod("friend");
    cluster.wait_for_pod("never");
    assert_eq!(registry.asked(), Vec::<String>::new());
    run_pod(&cluster, "stranger", &private, None, "IfNotPresent");
    run_pod(&cluster, "eve", &private, Some("wrong"), "IfNotPresent");
    run_pod(&cluster, "sly", &private, None, "Never");
    for name in ["stranger", "eve"] {
        waits_for(&cluster, name, &["ErrImagePull", "ImagePullBackOff"]);
    }
    waits_for(&cluster, "sly", &["ErrImageNeverPull"]);
    assert!(registry.asked().iter().all(|line| line.ends_with("401")));

    // What the registry gives to everybody, and what was brought by hand, is everybody's; so it stays for the
    // next process, which has no registry to ask.
    let public = format!("{}/public/app:1", registry.address());
    run_pod(&cluster, "one", &public, None, "IfNotPresent");
    cluster.wait_for_pod("one");
    cluster.stop();
    drop(registry);
    cluster.start();
    run_pod(&cluster, "two", &public, None, "IfNotPresent");
    run_pod(&cluster, "three", "busybox:test", None, "IfNotPresent");
    run_pod(&cluster, "four", &private, Some("key"), "IfNotPresent");
    for name in ["two", "three", "four"] {
        cluster.wait_for_pod(name);
    }
    run_pod(&cluster, "late", &private, None, "IfNotPresent");
    waits_for(&cluster, "late", &["ErrImagePull", "ImagePullBackOff"]);
}
