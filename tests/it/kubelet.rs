//! The node agent beyond running pods: debugging, resizing in place, static pods, measurements.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use minik8s_tests::{Cluster, eventually, kubectls, run};

const LIMIT: Duration = Duration::from_secs(60);

const SLEEPER: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: busybox:test
    command: [sleep, '100000']
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 100m, memory: 32Mi}}
    resizePolicy:
    - {resourceName: memory, restartPolicy: RestartContainer}
";

/// A cluster with the pod `web`, which sleeps.
fn start() -> Cluster {
    let cluster = Cluster::with_node();
    cluster.kubectl_with(&["apply", "-f", "-"], SLEEPER).ok();
    cluster.wait_for_pod("web");
    cluster
}

#[test]
fn pods_are_debugged_with_ephemeral_containers() {
    let cluster = start();
    for (number, program) in kubectls().into_iter().enumerate() {
        eprintln!("with {}", program.display());
        let name = format!("looks{number}");
        let debug = ["debug", "web", "--image=busybox:test", "-q", "--profile=general", "--target=web"];
        let command = ["--", "sh", "-c", "ps -o args; echo seen"];
        let arguments = [&debug[..], &["-c", &name], &command].concat();
        let started = cluster.kubectl_of(&program, &arguments, "");
        // Old ones know no profiles.
        let started = if started.stderr.contains("unknown flag: --profile") {
            let plain: Vec<&str> = arguments.into_iter().filter(|one| *one != "--profile=general").collect();
            cluster.kubectl_of(&program, &plain, "")
        } else {
            started
        };
        started.ok();
        eventually("the debugger has ended", LIMIT, || {
            let path = format!(
                "jsonpath={{.status.ephemeralContainerStatuses[?(@.name==\"{name}\")].state.terminated.exitCode}}"
            );
            let outcome = cluster.kubectl(&["get", "pod", "web", "-o", &path]);
            if outcome.stdout == "0" { Ok(()) } else { Err(outcome.to_string()) }
        });
        let log = cluster.kubectl_of(&program, &["logs", "web", "-c", &name], "").ok();
        assert!(
            log.contains("sleep 100000") && log.contains("seen"),
            "it sees its target's processes: {log}"
        );
    }
    debugging_with_an_input(&cluster);
    let pod = cluster.get("pod", "web");
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
}

/// A session with an input that stays open: runtimes tell one whose input has ended nothing more, unless the
/// container takes one input only, which debuggers do not.
fn debugging_with_an_input(cluster: &Cluster) {
    let newest = kubectls().pop().expect("a kubectl");
    let session = ["debug", "web", "-i", "-q", "--image=busybox:test", "-c", "talks", "--"];
    let mut child = cluster
        .command(&newest)
        .args([&session[..], &["sh", "-c", "read line; echo got $line"]].concat())
        .env("HOME", cluster.folder())
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(b"hello\n").expect("it takes input");
    let mut output = String::new();
    child.stdout.take().expect("its output").read_to_string(&mut output).expect("output");
    assert!(child.wait().expect("it ends").success());
    assert!(output.contains("got hello"), "{output}");
    drop(input);
}

/// Asks for other resources of the pod `web`.
fn resize(cluster: &Cluster, resources: &str) {
    let patch = format!("{{\"spec\":{{\"containers\":[{{\"name\":\"web\",\"resources\":{resources}}}]}}}}");
    cluster.kubectl(&["patch", "pod", "web", "--subresource", "resize", "--patch", &patch]).ok();
}

#[test]
fn containers_are_resized_while_they_run() {
    let cluster = start();
    let read = |file: &str| {
        // Where version 1's controllers are mounted, and where version 2 is.
        let line = format!("cat /sys/fs/cgroup/{file} 2>/dev/null");
        cluster.kubectl(&["exec", "web", "--", "sh", "-c", &line]).stdout.trim().to_string()
    };
    let quota = || match read("cpu/cpu.cfs_quota_us").as_str() {
        "" => read("cpu.max").split(' ').next().unwrap_or_default().to_string(),
        quota => quota.to_string(),
    };
    assert_eq!(quota(), "10000");
    resize(&cluster, "{\"requests\":{\"cpu\":\"200m\"},\"limits\":{\"cpu\":\"200m\"}}");
    eventually("the quota is another one", LIMIT, || match quota().as_str() {
        "20000" => Ok(()),
        other => Err(other.to_string()),
    });
    let is_told = |cpu: &str, memory: &str, restarts: u64| {
        eventually("the status tells", LIMIT, || {
            let status = cluster.get("pod", "web")["status"].clone();
            let container = &status["containerStatuses"][0];
            let limits = &container["resources"]["limits"];
            let is_done = !status["conditions"].to_string().contains("PodResize")
                && (limits["cpu"] == cpu && limits["memory"] == memory)
                && container["restartCount"] == restarts
                && container["ready"] == true;
            if is_done { Ok(()) } else { Err(status.to_string()) }
        });
    };
    is_told("200m", "32Mi", 0);
    resize(&cluster, "{\"requests\":{\"memory\":\"48Mi\"},\"limits\":{\"memory\":\"48Mi\"}}");
    is_told("200m", "48Mi", 1);
    resize(&cluster, "{\"requests\":{\"cpu\":\"100\"},\"limits\":{\"cpu\":\"100\"}}");
    cluster.wait_for(
        "pod",
        "web",
        "{.status.conditions[?(@.type==\"PodResizePending\")].reason}",
        "Deferred",
    );
    is_told_pending(&cluster);
}

fn is_told_pending(cluster: &Cluster) {
    let pod = cluster.get("pod", "web");
    assert_eq!(pod["status"]["containerStatuses"][0]["resources"]["limits"]["cpu"], "200m");
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["cpu"], "100");
}

const STATIC: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: static, labels: {app: static}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: 'busybox:test', command: [sh, -c, 'echo version VERSION; sleep 100000']}
";

#[test]
fn static_pods_run_from_manifests_and_show_as_mirrors() {
    let mut cluster = Cluster::with_node();
    let manifest = cluster.data_dir().join("agent/pod-manifests/static.yaml");
    fs::write(&manifest, STATIC.replace("VERSION", "1")).expect("a manifest");
    let logs = |cluster: &Cluster, wanted: &str| {
        eventually("it runs", LIMIT, || {
            let outcome = cluster.kubectl(&["logs", "static-one"]);
            if outcome.stdout == wanted { Ok(()) } else { Err(outcome.to_string()) }
        });
    };
    logs(&cluster, "version 1\n");
    cluster.wait_for_pod("static-one");
    let container = |cluster: &Cluster| {
        let pod = cluster.get("pod", "static-one");
        pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default().to_string()
    };
    let first = container(&cluster);
    assert_eq!(cluster.kubectl(&["exec", "static-one", "--", "echo", "in"]).ok(), "in\n");
    // Deleting the mirror deletes nothing else, and it comes back.
    cluster.kubectl(&["delete", "pod", "static-one", "--wait=false"]).ok();
    eventually("the mirror is back", LIMIT, || {
        let outcome = cluster.kubectl(&["get", "pod", "static-one", "-o", "json"]);
        let ready = outcome.success && container(&cluster) == first;
        if ready { Ok(()) } else { Err(outcome.to_string()) }
    });
    // A broken manifest changes nothing; it is named in an event.
    fs::write(&manifest, "kind: Pod").expect("a manifest");
    eventually("the fault is told", LIMIT, || {
        let events = cluster.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]);
        if events.stdout.contains("FailedStaticPod") { Ok(()) } else { Err(events.to_string()) }
    });
    assert_eq!(container(&cluster), first);
    // After a restart of everything it is the same pod.
    fs::write(&manifest, STATIC.replace("VERSION", "1")).expect("a manifest");
    cluster.kill();
    cluster.start();
    cluster.wait_until_ready();
    cluster.wait_for_pod("static-one");
    assert_eq!(container(&cluster), first);
    fs::write(&manifest, STATIC.replace("VERSION", "2")).expect("a manifest");
    logs(&cluster, "version 2\n");
    fs::remove_file(&manifest).expect("it can be removed");
    cluster.wait_for_none("pods", "app=static");
}

#[test]
fn use_is_measured_and_shown() {
    let cluster = start();
    let newest = kubectls().pop().expect("a kubectl");
    let top = |arguments: &[&str]| {
        eventually("use is measured", LIMIT, || {
            let outcome = cluster.kubectl_of(&newest, arguments, "");
            if outcome.success { Ok(outcome.stdout) } else { Err(outcome.to_string()) }
        })
    };
    let nodes = top(&["top", "nodes", "--no-headers"]);
    let words: Vec<&str> = nodes.split_whitespace().collect();
    assert!(words[0] == "one" && words[1].ends_with('m') && words[3].ends_with("Mi"), "{nodes}");
    let pods = top(&["top", "pod", "web", "--containers", "--no-headers"]);
    assert!(pods.starts_with("web ") && pods.contains(" web "), "{pods}");
    let summary = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/one/proxy/stats/summary"]).json();
    let used = &summary["pods"][0]["containers"][0]["memory"]["workingSetBytes"];
    assert!(used.as_u64().is_some_and(|bytes| bytes > 0), "{summary}");
    assert!(summary["node"]["fs"]["capacityBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{summary}");
    for (page, line) in [
        (
            "resource",
            "container_memory_working_set_bytes{container=\"web\",namespace=\"default\",pod=\"web\"}",
        ),
        (
            "cadvisor",
            "container_network_receive_bytes_total{interface=\"eth0\",namespace=\"default\",pod=\"web\"}",
        ),
        ("probes", "# TYPE prober_probe_total counter"),
    ] {
        let text =
            cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/one/proxy/metrics/{page}")]).ok();
        assert!(text.contains(line), "{page}: {text}");
    }
}

#[test]
fn the_kubelets_port_lets_in_tokens_of_those_who_may() {
    let cluster = start();
    let node = cluster.get("node", "one");
    let port = &node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    let address = node["status"]["addresses"][0]["address"].as_str().unwrap_or_default().to_string();
    let ask = |path: &str, token: &str| {
        let mut curl = cluster.network.command(0, "curl".as_ref());
        let form = "%{http_code}";
        curl.args(["-sk", "-o", "/dev/null", "-w", form, &format!("https://{address}:{port}{path}")]);
        if !token.is_empty() {
            curl.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        run(&mut curl, "").stdout
    };
    assert_eq!(ask("/healthz", ""), "401");
    assert_eq!(ask("/pods", "nonsense"), "401");
    cluster.kubectl(&["create", "serviceaccount", "scraper"]).ok();
    let token = cluster.kubectl(&["create", "token", "scraper"]).ok();
    assert_eq!(ask("/metrics/resource", token.trim()), "403");
    let rule = ["create", "clusterrole", "scraper", "--verb=get", "--resource=nodes/metrics"];
    cluster.kubectl(&rule).ok();
    let binding = [
        "create",
        "clusterrolebinding",
        "scraper",
        "--clusterrole=scraper",
        "--serviceaccount=default:scraper",
    ];
    cluster.kubectl(&binding).ok();
    // Who was refused is asked for again after a minute.
    eventually("the scraper may read", Duration::from_secs(90), || {
        match ask("/metrics/resource", token.trim()) {
            code if code == "200" => Ok(()),
            code => Err(code),
        }
    });
    assert_eq!(ask("/pods", token.trim()), "403");
}

#[test]
fn host_ports_that_are_the_nodes_own_are_refused() {
    let cluster = Cluster::with_node();
    let kubeconfig = fs::read_to_string(cluster.kubeconfig()).unwrap();
    let api =
        kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server: https://127.0.0.1:")).unwrap();
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: thief}}\nspec:\n  containers:\n  - name: a\n    \
         image: busybox:test\n    ports: [{{containerPort: 80, hostPort: {api}}}]\n"
    );
    // The scheduler knows the ports: what makes pods for ever is not led to make them in vain.
    let waits = pod.replace("thief", "waits");
    cluster.kubectl_with(&["apply", "-f", "-"], &waits).ok();
    cluster.wait_for(
        "pod",
        "waits",
        "{.status.conditions[?(@.type=='PodScheduled')].reason}",
        "Unschedulable",
    );
    // A pod can name its node itself.
    let pod = pod.replace("spec:\n", "spec:\n  nodeName: one\n");
    cluster.kubectl_with(&["apply", "-f", "-"], &pod).ok();
    cluster.wait_for("pod", "thief", "{.status.reason}", "NodePorts");
    cluster.wait_for("pod", "thief", "{.status.phase}", "Failed");
    let said = cluster.kubectl(&["get", "pod", "thief", "-o", "jsonpath={.status.message}"]).ok();
    assert!(said.contains(&format!("TCP port {api} is that of the node's API server")), "{said}");
    eventually("an event tells", LIMIT, || {
        let events = cluster.kubectl(&["get", "events"]);
        if events.stdout.contains("NodePorts") { Ok(()) } else { Err(events.to_string()) }
    });
    // From elsewhere, where a mapped port would lead into the pod.
    let url = format!("https://{}:{api}/readyz", cluster.network.address(0));
    let answer = run(cluster.network.command(1, "curl".as_ref()).args(["-sSk", "-m", "5", &url]), "").ok();
    assert_eq!(answer, "ok");
}
