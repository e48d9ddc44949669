//! `install.sh` where nothing is prepared: two bare machines, of which one becomes a server (built from a
//! clone) and the other its agent (downloaded), with the linked kubectl; both are upgraded under running
//! pods, and cleared again.
//!
//! Rust itself is a stand-in that "builds" the binary under test: a real build takes many minutes, and what
//! it needs of the machine is checked by the stand-in. Services are plain background processes here; systemd
//! as process 1 is absent.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use minik8s_tests::{BUSYBOX, Distribution, Machine, Network, binary, write_busybox_image};
use sha2::{Digest, Sha256};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("install.sh")
}

/// Everything that installing could leave, but for what belongs to distribution packages.
fn picture(machine: &Machine) -> BTreeSet<String> {
    let listed = machine
        .sh("find / -xdev '(' -path /usr -o -path /proc -o -path /sys -o -path /dev -o -path /var/cache -o -path /var/lib/apt -o \
             -path /var/lib/dpkg -o -path /var/log/apt -o -path /root/clone ')' -prune -o -print | sort; \
             find /run /usr/local | sort; cut -d' ' -f5 /proc/self/mountinfo; cat /proc/sys/net/ipv4/ip_forward; \
             ip -o link | cut -d: -f2; ip route; nft list ruleset; \
             find /sys/fs/cgroup -type d -name '*minik8s*'; cat /proc/[0-9]*/comm")
        .ok();
    listed.lines().map(str::to_string).collect()
}

/// A clone's outline: what `install.sh` looks for, and nothing to build.
fn put_clone(machine: &Machine) {
    let clone = machine.path("/root/clone");
    for folder in ["src", "embedded-store", "manifests"] {
        fs::create_dir_all(clone.join(folder)).unwrap();
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::write(clone.join(file), "").unwrap();
    }
    fs::copy(script(), clone.join("install.sh")).unwrap();
}

/// The folder that is served.
fn site(machine: &Machine) -> PathBuf {
    let folder = machine.path("/opt/site");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Serves a folder of the machine on port 8000 of its own loopback.
fn serve(network: &Network, end: usize, folder: &Path) -> Served {
    let mut command = network.command(end, "busybox".as_ref());
    Served(command.args(["httpd", "-f", "-p", "127.0.0.1:8000", "-h"]).arg(folder).spawn().unwrap())
}

struct Served(std::process::Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As rustup's installer: puts a cargo into place, which checks what a build would need and "builds".
const RUSTUP: &str = r#"
mkdir -p "$CARGO_HOME/bin"
cat >"$CARGO_HOME/bin/cargo" <<'CARGO'
#!/bin/sh
[ "$*" = "build --release --bin minik8s" ] || { echo "cargo is asked to $*" >&2; exit 1; }
set -e
printf '#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n' >/tmp/probe.c
cc -o /tmp/probe /tmp/probe.c
printf 'syntax = "proto3"; import "google/protobuf/empty.proto";\n' >/tmp/probe.proto
protoc --proto_path=/tmp --proto_path=/usr/include --descriptor_set_out=/tmp/probe.out /tmp/probe.proto
rm /tmp/probe*
mkdir -p target/release
cp /opt/given/minik8s target/release/minik8s
CARGO
chmod +x "$CARGO_HOME/bin/cargo"
"#;

const CONTAINER: &str = "jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[0].containerID}/\
                         {.status.containerStatuses[0].restartCount} {end}";

#[test]
fn two_bare_machines_become_a_cluster_and_are_bare_again() {
    let Some(distribution) = Distribution::of_this_machine(Path::new(env!("CARGO_TARGET_TMPDIR"))) else {
        eprintln!("skipped: there is no debootstrap, or no mirror that is reached by plain HTTP");
        return;
    };
    let network = Network::new();
    let server = Machine::boot(&distribution, &network, 0);
    let agent = Machine::boot(&distribution, &network, 1);
    let clean = install_from_a_clone(&network, &server);
    let token = fs::read_to_string(server.path("/var/lib/minik8s/server/agent-token")).unwrap();
    let url = format!("https://{}:6443", network.address(0));
    let _served = serve(&network, 1, &site(&agent));
    let clean_agent = install_by_download(&agent, &url, token.trim());

    for machine in [&server, &agent] {
        write_busybox_image(&machine.path("/var/lib/minik8s/agent/images/busybox.tar")).unwrap();
    }
    kubectl_does_the_usual(&server);
    let kubectl = |arguments: &str| server.sh(&format!("kubectl {arguments}"));
    kubectl(&format!("create deployment web --image={BUSYBOX} --replicas=4")).ok();
    kubectl("rollout status deployment/web --timeout=90s").ok();
    let nodes = kubectl("get pods -o jsonpath='{.items[*].spec.nodeName}'").ok();
    assert!(nodes.contains("bare-0") && nodes.contains("bare-1"), "{nodes}");
    let address =
        kubectl("get pods -o jsonpath='{.items[?(@.spec.nodeName==\"bare-1\")].status.podIP}'").ok();
    let address = address.split(' ').next().unwrap_or_default();
    let fetch = format!(
        "run fetch --image={BUSYBOX} --restart=Never --overrides='{{\"spec\":{{\"nodeName\":\"bare-0\"}}}}' \
                         -- timeout 10 wget -q -O - http://{address}/"
    );
    kubectl(&fetch).ok();
    kubectl("wait pod/fetch --for=jsonpath={.status.phase}=Succeeded --timeout=60s").ok();
    assert_eq!(kubectl("logs fetch").ok(), "hello from busybox\n");
    kubectl("delete pod fetch").ok();
    let before = kubectl(&format!("get pods '-o={CONTAINER}'")).ok();

    // Again, without the variables of the first time: new processes, the same pods.
    let said = agent.sh("INSTALL_MINIK8S_BASE_URL=http://127.0.0.1:8000 sh /root/install.sh").ok();
    assert!(said.contains("this machine is a Ready node of https://"), "{said}");
    assert!(server.sh("/root/clone/install.sh").ok().contains("the cluster is ready"));
    let after = kubectl(&format!("get pods '-o={CONTAINER}'")).ok();
    assert_eq!(before, after);
    for pod in kubectl("get pods -o name").ok().lines() {
        kubectl(&format!("logs {pod}")).ok();
    }

    for (machine, clean) in [(&agent, clean_agent), (&server, clean)] {
        let said = machine.sh("minik8s uninstall").ok();
        assert!(said.contains("is removed") && said.contains("containerd"), "{said}");
        let left: Vec<String> = picture(machine).symmetric_difference(&clean).cloned().collect();
        assert_eq!(left, Vec::<String>::new(), "left or taken away");
    }
}

/// Nothing is there: the build branch brings everything. Answers with a picture of the machine with packages
/// and without minik8s.
fn install_from_a_clone(network: &Network, machine: &Machine) -> BTreeSet<String> {
    put_clone(machine);
    let refused = machine
        .sh("INSTALL_MINIK8S_RUSTUP_URL=http://127.0.0.1:8000/rustup.sh /root/clone/install.sh")
        .failed();
    let line = refused.lines().last().unwrap_or_default();
    assert!(
        line.contains("building needs Rust 1.90 or newer") && line.contains("https://rustup.rs"),
        "{refused}"
    );

    fs::create_dir_all(machine.path("/opt/given")).unwrap();
    fs::copy(binary(), machine.path("/opt/given/minik8s")).unwrap();
    fs::write(site(machine).join("rustup.sh"), RUSTUP).unwrap();
    let _served = serve(network, 0, &site(machine));
    let install = "INSTALL_MINIK8S_RUSTUP_URL=http://127.0.0.1:8000/rustup.sh /root/clone/install.sh";
    let said = machine.sh(&format!("INSTALL_MINIK8S_SKIP_START=true {install}")).ok();
    assert!(said.contains("installed; not started") && said.contains("kubectl is the bundled one"), "{said}");
    machine.sh("minik8s uninstall").ok();
    let clean = picture(machine);
    let said = machine.sh(install).ok();
    assert!(said.contains("the cluster is ready"), "{said}");
    assert!(!said.contains("rustup"), "what is built is not built again: {said}");
    clean
}

fn install_by_download(machine: &Machine, url: &str, token: &str) -> BTreeSet<String> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let name = format!("minik8s-linux-{architecture}");
    let site = site(machine);
    let program = fs::read(binary()).unwrap();
    let sum: String = Sha256::digest(&program).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(site.join(&name), program).unwrap();
    fs::write(site.join(format!("{name}.sha256")), format!("{}  {name}\n", "0".repeat(64))).unwrap();
    fs::copy(script(), machine.path("/root/install.sh")).unwrap();
    let variables =
        format!("INSTALL_MINIK8S_BASE_URL=http://127.0.0.1:8000 MINIK8S_URL={url} MINIK8S_TOKEN={token}");
    let refused = machine.sh(&format!("{variables} sh /root/install.sh")).failed();
    assert!(refused.lines().last().unwrap_or_default().contains("nothing is installed"), "{refused}");
    fs::write(site.join(format!("{name}.sha256")), format!("{sum}  {name}\n")).unwrap();
    let install = format!("{variables} sh /root/install.sh");
    machine.sh(&format!("INSTALL_MINIK8S_SKIP_START=true {install}")).ok();
    machine.sh("minik8s uninstall").ok();
    let clean = picture(machine);
    let said = machine.sh(&install).ok();
    assert!(said.contains("this machine is a Ready node of https://"), "{said}");
    let kept = machine.sh("cat /etc/minik8s/minik8s.env").ok();
    assert!(kept.contains("MINIK8S_URL=") && !kept.contains("MINIK8S_TOKEN"), "it has done its work: {kept}");
    clean
}

/// The commands of a first hour, with the kubectl that was linked.
fn kubectl_does_the_usual(machine: &Machine) {
    fs::write(machine.path("/root/app.yaml"), APP).unwrap();
    fs::write(machine.path("/root/pod.json"), POD).unwrap();
    let kubectl = |arguments: &str| machine.sh(&format!("kubectl {arguments}")).ok();
    assert!(machine.sh("readlink $(command -v kubectl)").ok().contains("minik8s"));
    assert_eq!(kubectl("get nodes --no-headers").matches(" Ready ").count(), 2);
    kubectl(&format!("run hello --image={BUSYBOX} --port=80"));
    kubectl("wait pod/hello --for=condition=Ready --timeout=60s");
    assert!(kubectl("describe pod hello").contains("Successfully assigned default/hello"));
    assert!(kubectl("get pods -o wide -A").contains("hello"));
    assert!(kubectl("get events").contains("Started"));
    assert!(kubectl("apply -f /root/app.yaml").contains("deployment.apps/app created"));
    assert!(kubectl("apply -f /root/app.yaml").contains("deployment.apps/app unchanged"));
    kubectl("scale deployment app --replicas=3");
    kubectl("rollout status deployment/app --timeout=60s");
    assert_eq!(kubectl("get pods -l app=app -o name").lines().count(), 3);
    let through_the_proxy = machine
        .sh("kubectl proxy --port=8080 >/tmp/proxy & \
             until grep -q Starting /tmp/proxy; do :; done; node=$(uname -n); \
             kubectl --server http://127.0.0.1:8080 get --raw /api/v1/nodes/$node/; echo; \
             kubectl --server http://127.0.0.1:8080 create --raw /api/v1/namespaces/default/pods -f /root/pod.json; echo; \
             kubectl --server http://127.0.0.1:8080 get --raw /api/v1/events; kill $!; rm /tmp/proxy")
        .ok();
    for needed in [
        "\"kind\":\"Node\"",
        "\"name\":\"byhand\"",
        "\"component\":\"kubelet\"",
        "\"component\":\"default-scheduler\"",
    ] {
        assert!(through_the_proxy.contains(needed), "{needed}: {through_the_proxy}");
    }
    kubectl("wait pod/byhand --for=condition=Ready --timeout=60s");
    kubectl("delete pod hello byhand --now");
    kubectl("delete -f /root/app.yaml");
    kubectl("wait pods -l app=app --for=delete --timeout=90s");
    machine.sh("rm /root/app.yaml /root/pod.json").ok();
}

const APP: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\nspec:\n  replicas: 1\n  selector: {matchLabels: {app: app}}\n  \
                   template:\n    metadata: {labels: {app: app}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      \
                   containers: [{name: a, image: 'busybox:test'}]\n";

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"byhand"},
 "spec":{"containers":[{"name":"a","image":"busybox:test","ports":[{"containerPort":80,"hostPort":8099}]}]}}"#;
