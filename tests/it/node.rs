//! Pods on a node: their life, their volumes, their logs, their network.

use std::time::Duration;

use minik8s_tests::{Cluster, eventually};

/// A pod's manifest; `spec` is indented by two, but for its first line.
fn pod(name: &str, spec: &str) -> String {
    let spec = spec.trim_start();
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  {spec}")
}

#[test]
fn pods_live_as_their_restart_policy_says() {
    let cluster = Cluster::with_node();
    for (name, policy, command) in [
        ("done", "Never", "exit 0"),
        ("broken", "Never", "exit 3"),
        ("again", "OnFailure", "exit 1"),
        ("always", "Always", "exit 0"),
    ] {
        let spec = format!(
            "  restartPolicy: {policy}\n  containers:\n  - {{name: a, image: 'busybox:test', command: [sh, -c, '{command}']}}\n"
        );
        cluster.kubectl_with(&["apply", "-f", "-"], &pod(name, &spec)).ok();
    }
    // A container's own rule goes before its pod's policy.
    let ruled = "  restartPolicy: Never\n  containers:\n  - name: a\n    image: busybox:test\n    \
                 command: [sh, -c, 'exit 42']\n    restartPolicy: Never\n    restartPolicyRules:\n    \
                 - {action: Restart, exitCodes: {operator: In, values: [42]}}\n";
    cluster.kubectl_with(&["apply", "-f", "-"], &pod("ruled", ruled)).ok();
    cluster.wait_for("pod", "done", "{.status.phase}", "Succeeded");
    cluster.wait_for("pod", "broken", "{.status.phase}", "Failed");
    cluster.wait_for("pod", "broken", "{.status.containerStatuses[0].state.terminated.exitCode}", "3");
    for name in ["again", "always", "ruled"] {
        eventually(&format!("{name} is restarted"), Duration::from_secs(60), || {
            let path = "jsonpath={.status.containerStatuses[0].restartCount}";
            let outcome = cluster.kubectl(&["get", "pod", name, "-o", path]);
            if outcome.stdout.parse::<u32>().is_ok_and(|count| count > 0) {
                Ok(())
            } else {
                Err(outcome.to_string())
            }
        });
        cluster.wait_for(
            "pod",
            name,
            "{.status.containerStatuses[0].state.waiting.reason}",
            "CrashLoopBackOff",
        );
    }
    cluster.kubectl(&["delete", "pod", "done", "broken", "again", "always", "ruled", "--timeout=60s"]).ok();
}

#[test]
fn logs_come_whole_and_follow() {
    let cluster = Cluster::with_node();
    let spec = "  restartPolicy: Never\n  containers:\n  - name: a\n    image: busybox:test\n    \
                command: [sh, -c, 'for i in 1 2 3 4 5; do echo line $i; done; echo problem >&2; sleep 1; echo last']\n";
    cluster.kubectl_with(&["apply", "-f", "-"], &pod("talks", spec)).ok();
    // Refused until there is a container; from then on it follows to the end, however soon that comes.
    let followed = eventually("the logs can be followed", Duration::from_secs(60), || {
        let outcome = cluster.kubectl(&["logs", "-f", "talks"]);
        if outcome.success { Ok(outcome.stdout) } else { Err(outcome.to_string()) }
    });
    // The two streams are two pipes: each is in order, but not one to the other.
    let (errors, output): (Vec<&str>, Vec<&str>) = followed.lines().partition(|line| *line == "problem");
    assert_eq!(output, ["line 1", "line 2", "line 3", "line 4", "line 5", "last"], "{followed}");
    assert_eq!(errors.len(), 1, "{followed}");
    cluster.wait_for("pod", "talks", "{.status.phase}", "Succeeded");
    assert_eq!(cluster.kubectl(&["logs", "talks", "--tail=1"]).ok(), "last\n");
    assert_eq!(cluster.own_kubectl(&["logs", "talks", "--tail=1"]).ok(), "last\n");
    let absent = cluster.kubectl(&["logs", "talks", "-c", "b"]).failed();
    assert!(absent.contains("container b is not valid for pod talks"), "{absent}");
}

#[test]
fn volumes_and_environment_reach_the_container() {
    let cluster = Cluster::with_node();
    cluster.kubectl(&["create", "configmap", "settings", "--from-literal=colour=green"]).ok();
    cluster.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=word=sesame"]).ok();
    let spec = "\
  restartPolicy: Never
  containers:
  - name: a
    image: busybox:test
    command: [sh, -c, 'cat /config/colour; echo; cat /secret/word; echo; echo $COLOUR $WORD $NODE $IP; echo x >/scratch/x && cat /scratch/x; ls /var/run/secrets/kubernetes.io/serviceaccount; id -u']
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: hidden, key: word}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: secret, mountPath: /secret}
    - {name: scratch, mountPath: /scratch}
    securityContext: {runAsUser: 65534}
  securityContext: {fsGroup: 65534}
  volumes:
  - {name: config, configMap: {name: settings}}
  - {name: secret, secret: {secretName: hidden}}
  - {name: scratch, emptyDir: {}}
";
    cluster.kubectl_with(&["apply", "-f", "-"], &pod("volumes", spec)).ok();
    cluster.wait_for("pod", "volumes", "{.status.phase}", "Succeeded");
    let said = cluster.kubectl(&["logs", "volumes"]).ok();
    assert!(said.starts_with("green\nsesame\ngreen sesame one 10.42."), "{said}");
    assert!(said.contains("\nx\n") && said.contains("ca.crt\nnamespace\ntoken\n"), "{said}");
    assert!(said.ends_with("65534\n"), "{said}");
}

#[test]
fn pods_reach_each_other_and_the_api() {
    let cluster = Cluster::with_node();
    cluster.kubectl(&["run", "web", "--image=busybox:test", "--port=80"]).ok();
    cluster.wait_for_pod("web");
    let address = cluster.kubectl(&["get", "pod", "web", "-o", "jsonpath={.status.podIP}"]).ok();
    assert!(address.starts_with("10.42.0."), "{address}");
    let spec = format!(
        "  restartPolicy: Never\n  containers:\n  - {{name: a, image: 'busybox:test', command: [wget, -q, -O, '-', 'http://{address}/']}}\n"
    );
    cluster.kubectl_with(&["apply", "-f", "-"], &pod("client", &spec)).ok();
    cluster.wait_for("pod", "client", "{.status.phase}", "Succeeded");
    assert_eq!(cluster.kubectl(&["logs", "client"]).ok(), "hello from busybox\n");
}

#[test]
fn a_pod_that_is_told_to_go_gets_its_time_and_no_more() {
    let cluster = Cluster::with_node();
    let spec = "\
  terminationGracePeriodSeconds: 30
  containers:
  - {name: a, image: 'busybox:test', command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.1; done']}
";
    cluster.kubectl_with(&["apply", "-f", "-"], &pod("polite", spec)).ok();
    let stubborn = spec.replace("30", "2").replace("exit 0", ":");
    cluster.kubectl_with(&["apply", "-f", "-"], &pod("stubborn", &stubborn)).ok();
    cluster.wait_for_pod("polite");
    cluster.wait_for_pod("stubborn");
    // It ends when it has ended: its time is longer.
    cluster.kubectl(&["delete", "pod", "polite", "--timeout=25s"]).ok();
    let began = std::time::Instant::now();
    cluster.kubectl(&["delete", "pod", "stubborn", "--timeout=30s"]).ok();
    assert!(began.elapsed() >= Duration::from_millis(1500), "it gets its time: {:?}", began.elapsed());
}

#[test]
fn an_image_that_is_not_there_is_said_so() {
    let cluster = Cluster::with_node();
    let spec = "  containers:\n  - {name: a, image: 'nowhere.invalid/none:1'}\n";
    cluster.kubectl_with(&["apply", "-f", "-"], &pod("absent", spec)).ok();
    eventually("the kubelet backs off", Duration::from_secs(60), || {
        let path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
        let outcome = cluster.kubectl(&["get", "pod", "absent", "-o", path]);
        let is_waiting = ["ErrImagePull", "ImagePullBackOff"].contains(&outcome.stdout.as_str());
        if is_waiting { Ok(()) } else { Err(outcome.to_string()) }
    });
    let never = spec.replace("'}", "', imagePullPolicy: Never}");
    cluster.kubectl_with(&["apply", "-f", "-"], &pod("never", &never)).ok();
    cluster.wait_for(
        "pod",
        "never",
        "{.status.containerStatuses[0].state.waiting.reason}",
        "ErrImageNeverPull",
    );
}

#[test]
fn a_rollout_replaces_pods_and_can_be_undone() {
    let cluster = Cluster::with_node();
    cluster.kubectl(&["create", "deployment", "web", "--image=busybox:test", "--replicas=2"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    cluster.kubectl(&["set", "env", "deployment/web", "VERSION=2"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    let sets = cluster.kubectl(&["get", "replicasets", "-l", "app=web", "-o", "json"]).json();
    assert_eq!(sets["items"].as_array().unwrap().len(), 2);
    let history = cluster.kubectl(&["rollout", "history", "deployment/web"]).ok();
    assert!(history.contains("\n2 "), "{history}");
    cluster.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    let env = cluster.kubectl(&[
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].env}",
    ]);
    assert_eq!(env.ok(), "");
    cluster.kubectl(&["delete", "deployment", "web"]).ok();
    cluster.wait_for_none("pods", "app=web");
}
