//! Pods that come and go leave nothing on their node: no process, mount, interface, namespace, rule, cgroup,
//! file, descriptor or thread, and no memory that grows with their number.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use minik8s_tests::{Cluster, Traces, eventually, run};

/// Pods that are there at a time.
const AT_ONCE: usize = 10;

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 10
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers:
      - {name: first, image: 'busybox:test', command: ['true']}
      containers:
      - name: web
        image: busybox:test
        readinessProbe: {exec: {command: ['true']}, periodSeconds: 1}
        volumeMounts:
        - {name: memory, mountPath: /memory}
        - {name: disk, mountPath: /disk, subPath: part}
        - {name: config, mountPath: /config}
      - {name: side, image: 'busybox:test', command: [sleep, '3600']}
      volumes:
      - {name: memory, emptyDir: {medium: Memory}}
      - {name: disk, emptyDir: {}}
      - {name: config, configMap: {name: kube-root-ca.crt}}
"#;

/// What there is of an instance.
struct Picture {
    traces: Traces,
    /// Files of the node and cgroups, by path.
    paths: BTreeSet<String>,
    /// Descriptors of the server and of its containerd.
    descriptors: [usize; 2],
    threads: usize,
    /// KiB.
    memory: u64,
}

fn lines(command: &mut Command) -> Vec<String> {
    run(command, "").stdout.lines().map(str::to_string).collect()
}

fn entries(path: String) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

fn containerd(cluster: &Cluster) -> String {
    let config = cluster.data_dir().join("agent/containerd/config-").display().to_string();
    let pids = lines(Command::new("pgrep").args(["-f", &format!("containerd .*{config}")]));
    pids.first().cloned().unwrap_or_default()
}

impl Picture {
    fn take(cluster: &Cluster) -> Self {
        let data = cluster.data_dir();
        let mut paths = BTreeSet::new();
        // containerd's own book-keeping changes with every container.
        let metadata = "*/io.containerd.metadata.v1.bolt*";
        let find = |place: &str| lines(Command::new("find").args([place, "-not", "-path", metadata]));
        paths.extend(find(&data.join("agent").display().to_string()));
        paths.extend(find(&format!("/run/minik8s-{}", cluster.instance_suffix())));
        let own = format!("*{}*", cluster.instance_suffix());
        paths.extend(lines(Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-path", &own])));
        let server = cluster.pid().expect("a server");
        let status = fs::read_to_string(format!("/proc/{server}/status")).expect("the server's state");
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        Picture {
            traces: Traces::take(&cluster.network),
            paths,
            descriptors: [server.to_string(), containerd(cluster)]
                .map(|pid| entries(format!("/proc/{pid}/fd"))),
            threads: entries(format!("/proc/{server}/task")),
            memory: memory.trim().trim_end_matches(" kB").parse().expect("a number"),
        }
    }

    /// What is too much, compared with this picture.
    fn excess(&self, now: &Picture, marks: &[String]) -> Vec<String> {
        let mut excess = now.traces.beyond(&self.traces, marks);
        excess.extend(now.paths.difference(&self.paths).cloned());
        for (which, (before, after)) in self.descriptors.iter().zip(now.descriptors).enumerate() {
            if after > before + 5 {
                excess.push(format!("{before} descriptors before, {after} after (of process {which})"));
            }
        }
        // Those that do blocking work end when they have had none for a while.
        if now.threads > self.threads + 4 {
            excess.push(format!("{} threads before, {} after", self.threads, now.threads));
        }
        // The history of changes grows with them, up to a bound of its own.
        if now.memory > self.memory + self.memory / 10 + 8192 {
            excess.push(format!("{} KiB before, {} KiB after", self.memory, now.memory));
        }
        excess
    }
}

/// Lets pods come and go; the names of the network namespaces that they had.
fn come_and_go(cluster: &Cluster, pods: usize) -> BTreeSet<String> {
    let mut namespaces = BTreeSet::new();
    for _ in 0..pods.div_ceil(AT_ONCE) {
        cluster.kubectl_with(&["apply", "-f", "-"], DEPLOYMENT).ok();
        cluster.kubectl(&["rollout", "status", "deployment/many", "--timeout=140s"]).ok();
        let links = run(cluster.network.command(0, Path::new("ip")).args(["-o", "link"]), "").ok();
        let named = links.lines().filter_map(|line| line.split("link-netns ").nth(1));
        namespaces.extend(named.filter_map(|rest| rest.split_whitespace().next()).map(str::to_string));
        cluster.kubectl(&["delete", "deployment/many", "--timeout=60s"]).ok();
        cluster.wait_for_none("pods", "app=many");
    }
    namespaces
}

#[test]
fn pods_that_come_and_go_leave_nothing() {
    let pods = if std::env::var_os("MINIK8S_LONG").is_some() { 500 } else { 50 };
    let cluster = Cluster::with_node();
    // What is made once and stays is there after the first ones.
    come_and_go(&cluster, AT_ONCE);
    let mut before = Picture::take(&cluster);
    // The last of the first ones may still be going.
    eventually("the node is at rest", Duration::from_secs(60), || {
        let now = Picture::take(&cluster);
        let going: Vec<String> = before.paths.difference(&now.paths).cloned().collect();
        before = now;
        if going.is_empty() { Ok(()) } else { Err(going.join("\n")) }
    });
    let namespaces = come_and_go(&cluster, pods);
    assert!(namespaces.len() >= pods, "each pod has a namespace: {namespaces:?}");
    let marks = cluster.marks();
    eventually("nothing is left of them", Duration::from_secs(90), || {
        let mut left = before.excess(&Picture::take(&cluster), &marks);
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        left.extend(names.filter(|name| namespaces.contains(name)).map(|name| format!("namespace {name}")));
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}
