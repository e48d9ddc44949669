//! `minik8s status` as an operator sees it: a healthy server, a taken port, a full disk, nothing at all, an
//! agent.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use minik8s_tests::{Agent, Cluster, CommandOutcome, Options, SmallDisk, eventually, run};
use serde_json::Value;

fn status(cluster: &Cluster, data_dir: &Path, more: &[&str]) -> CommandOutcome {
    let mut command = cluster.minik8s(&["status"]);
    run(command.args(more).arg("--data-dir").arg(data_dir), "")
}

fn json(cluster: &Cluster) -> Value {
    status(cluster, &cluster.data_dir(), &["-o", "json"]).json()
}

fn problems(report: &Value) -> String {
    report["problems"].to_string()
}

#[test]
fn a_server_with_its_node_tells_how_it_is() {
    let cluster = Cluster::with_node();
    let report = json(&cluster);
    assert_eq!(report["state"], "running", "{report:#}");
    assert_eq!(report["role"], "server");
    assert_eq!(report["pid"], cluster.pid().unwrap());
    assert_eq!(report["api"]["ready"], true);
    assert_eq!(report["api"]["checks"]["etcd"], true);
    let version = cluster.kubectl(&["version", "-o", "json"]).json();
    assert_eq!(report["version"], version["serverVersion"]["gitVersion"]);
    assert!(report["store"]["keys"].as_u64().unwrap() > 50);
    assert_eq!(report["store"]["alarms"], Value::Array(Vec::new()));
    assert!(report["etcd"]["url"].as_str().unwrap().starts_with("https://127.0.0.1:"));
    assert!(report["snapshots"]["next"].is_string());
    assert_eq!(report["node"]["name"], "one");
    assert_eq!(report["node"]["ready"], true);
    assert_eq!(report["node"]["runtime"]["answers"], true);
    assert!(report["node"]["runtime"]["version"].as_str().unwrap().starts_with("containerd://"));
    let pid = report["node"]["runtime"]["pid"].as_u64().expect("containerd's process");
    let files: Vec<&str> =
        report["certificates"].as_array().unwrap().iter().map(|one| one["file"].as_str().unwrap()).collect();
    assert!(files.contains(&"server/tls/serving-kube-apiserver.crt"), "{files:?}");
    assert!(files.contains(&"agent/kubelet-serving.crt"), "{files:?}");
    let stages: Vec<&str> =
        report["components"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for stage in ["apiserver", "controllers", "scheduler", "containerd", "network", "kubelet"] {
        assert!(stages.contains(&stage), "{stages:?}");
    }
    assert_eq!(report["cluster"]["nodesReady"], 1, "{report:#}");
    assert_eq!(report["node"]["dns"]["answers"], true, "{report:#}");
    let text = status(&cluster, &cluster.data_dir(), &["--all"]).ok();
    assert!(text.starts_with("minik8s server: running\n") && text.contains("Ready=True"), "{text}");
    let text = status(&cluster, &cluster.data_dir(), &[]).ok();
    assert!(text.starts_with("minik8s server: running\n") && text.lines().count() == 10, "{text}");
    assert!(status(&cluster, &cluster.data_dir(), &["-o", "yaml"]).ok().contains("role: server\n"));

    // A runtime that is gone shows until it is back.
    run(std::process::Command::new("kill").arg("-9").arg(pid.to_string()), "").ok();
    eventually("the runtime is reported", Duration::from_secs(30), || {
        let report = json(&cluster);
        let is_new = report["node"]["runtime"]["pid"].as_u64().is_some_and(|new| new != pid);
        if is_new || problems(&report).contains("the container runtime is down") {
            Ok(())
        } else {
            Err(problems(&report))
        }
    });
    eventually("it is well again", Duration::from_secs(60), || match json(&cluster) {
        report if report["state"] == "running" => Ok(()),
        report => Err(problems(&report)),
    });
}

#[test]
fn a_taken_etcd_port_shows() {
    let mut cluster = Cluster::prepare(Options::default());
    let _other = cluster.network.listen(0, "127.0.0.1:2379");
    cluster.start();
    let report = json(&cluster);
    assert_eq!(report["state"], "degraded");
    assert!(report["etcd"]["off"].as_str().unwrap().contains("cannot listen on 127.0.0.1:2379"), "{report}");
    let text = status(&cluster, &cluster.data_dir(), &[]).ok();
    let line = text.lines().find(|line| line.contains("etcd's API is off")).unwrap();
    assert!(line.contains("127.0.0.1:2379") && line.contains("--etcd-listen"), "{line}");
}

#[test]
fn a_disk_that_is_nearly_full_is_an_alarm() {
    let mut cluster = Cluster::prepare(Options::default());
    let disk = SmallDisk::new(&cluster.data_dir(), 250);
    cluster.start();
    assert_eq!(json(&cluster)["state"], "running");
    disk.fill(80);
    let report = json(&cluster);
    assert!(problems(&report).contains("getting full"), "{report:#}");
    disk.free();
    disk.fill(180);
    // Nobody has to write for it to be seen.
    let report = json(&cluster);
    assert_eq!(report["store"]["alarms"], serde_json::json!(["NOSPACE"]));
    assert!(problems(&report).contains("writes are refused"), "{report:#}");
    disk.free();
    assert_eq!(json(&cluster)["state"], "running");
    cluster.stop();
    drop(disk);
}

#[test]
fn without_a_server_one_line_says_so() {
    let mut cluster = Cluster::prepare(Options::default());
    let nothing = status(&cluster, &cluster.folder().join("none"), &[]);
    assert_eq!(nothing.code, Some(4));
    assert!(nothing.stderr.contains("there is no instance at"), "{nothing}");
    cluster.start();
    cluster.kill();
    let stopped = status(&cluster, &cluster.data_dir(), &["--all"]);
    assert_eq!(stopped.code, Some(3), "{stopped}");
    assert!(stopped.stderr.contains("nothing runs on") && stopped.stderr.lines().count() == 1, "{stopped}");
    assert!(stopped.stdout.contains("serving-kube-apiserver.crt"), "{stopped}");
    let report: Value =
        serde_json::from_str(&status(&cluster, &cluster.data_dir(), &["-o", "json"]).stdout).unwrap();
    assert_eq!(report["state"], "stopped");
    assert!(stopped.stderr.contains("start it with") && !stopped.stderr.contains("systemctl"), "{stopped}");

    // One that could not go on is remembered with its reason.
    std::fs::write(cluster.data_dir().join("server/tls/server-ca.crt"), "no certificate").unwrap();
    let mut server =
        cluster.minik8s(&["server", "--disable-agent", "--https-listen-port", "0", "--data-dir"]);
    let failed = run(server.arg(cluster.data_dir()), "").failed();
    let why = failed.lines().last().unwrap().trim_start_matches("minik8s server: ");
    let stopped = status(&cluster, &cluster.data_dir(), &[]);
    assert!(stopped.stderr.contains(why), "{why}: {stopped}");
    let wrong = status(&cluster, &cluster.data_dir(), &["-o", "xml"]).failed();
    assert!(wrong.contains("xml") && wrong.lines().count() == 1, "{wrong}");
}

#[test]
fn a_stranger_on_the_admin_socket_is_named() {
    let cluster = Cluster::prepare(Options::default());
    let folder = cluster.data_dir().join("server");
    std::fs::create_dir_all(&folder).unwrap();
    let listener = UnixListener::bind(folder.join("admin.sock")).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 smtp.example ESMTP\n").unwrap();
    });
    let said = status(&cluster, &cluster.data_dir(), &[]);
    answering.join().unwrap();
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("is no minik8s") && said.stderr.lines().count() == 1, "{said}");
}

#[test]
fn silent_clients_of_the_admin_socket_keep_nobody_waiting() {
    let cluster = Cluster::control_plane();
    let socket = cluster.data_dir().join("server/admin.sock");
    let _silent: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert_eq!(json(&cluster)["api"]["ready"], true);
}

#[test]
fn what_is_wrong_in_the_cluster_comes_first() {
    let cluster = Cluster::with_node();
    let large = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"large"},"spec":{"containers":[
        {"name":"a","image":"busybox:test","resources":{"requests":{"cpu":"5000"}}}]}}"#;
    cluster.kubectl_with(&["apply", "-f", "-"], large).ok();
    cluster.kubectl(&["run", "nowhere", "--image=registry.invalid/none:1"]).ok();
    std::fs::write(cluster.data_dir().join("agent/images/broken.tar"), "no archive").unwrap();
    std::fs::write(cluster.data_dir().join("agent/images/other.zip"), "no archive").unwrap();
    let corefile =
        ["create", "configmap", "coredns", "-n", "kube-system", "--from-literal=Corefile=.:53 { frob }"];
    cluster.kubectl(&corefile).ok();
    let wanted = [
        "1 of 2 pods find no node: default/large: ",
        "1 of 2 pods do not get their image: default/nowhere: image registry.invalid/none:1",
        "the image archive \"broken.tar\" is not imported",
        "ConfigMap kube-system/coredns is not in use: ",
    ];
    eventually("everything is told", Duration::from_secs(60), || {
        let text = status(&cluster, &cluster.data_dir(), &[]).ok();
        let told = text.lines().skip(1).take_while(|line| line.starts_with("  - ")).collect::<String>();
        if wanted.iter().all(|wanted| told.contains(wanted)) { Ok(()) } else { Err(text) }
    });
    assert!(cluster.log().contains("other.zip"), "{}", cluster.log());

    cluster.kubectl(&["delete", "pod", "large", "nowhere", "--now"]).ok();
    cluster.kubectl(&["delete", "configmap", "coredns", "-n", "kube-system"]).ok();
    std::fs::remove_file(cluster.data_dir().join("agent/images/broken.tar")).unwrap();
    eventually("it is well again", Duration::from_secs(60), || match json(&cluster) {
        report if report["state"] == "running" => Ok(()),
        report => Err(problems(&report)),
    });
}

#[test]
fn images_are_imported_listed_and_removed_by_command() {
    let cluster = Cluster::with_node();
    let image = |arguments: &[&str], input: &str| {
        let mut command = cluster.minik8s(&["image"]);
        run(command.args(arguments).arg("--data-dir").arg(cluster.data_dir()), input)
    };
    let archive = cluster.data_dir().join("agent/images/busybox.tar");
    let packed = cluster.folder().join("packed.tgz");
    let packing = format!("gzip -c {} >{}", archive.display(), packed.display());
    run(std::process::Command::new("sh").args(["-c", &packing]), "").ok();
    assert!(image(&["list"], "").ok().contains("docker.io/library/busybox:test"));
    assert!(image(&["rm", "busybox:test"], "").ok().contains("removed busybox:test"));
    assert!(!image(&["list"], "").ok().contains("busybox:test"));
    assert!(image(&["rm", "busybox:test"], "").failed().contains("no such image"));
    let said = image(&["import", packed.to_str().unwrap()], "").ok();
    assert!(said.contains("imported docker.io/library/busybox:test"), "{said}");
    cluster.kubectl(&["run", "from-it", "--image=busybox:test", "--image-pull-policy=Never"]).ok();
    cluster.wait_for_pod("from-it");
    let refused = image(&["import", "-"], "no archive").failed();
    assert!(refused.contains("cannot import") && refused.lines().count() == 1, "{refused}");
    let left = std::fs::read_dir(cluster.data_dir().join("agent/kubelet")).unwrap().flatten();
    let left: Vec<String> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
}

#[test]
fn a_machine_whose_name_is_taken_says_so() {
    let cluster = Cluster::with_node();
    let agent = Agent::start(&cluster, "one");
    eventually("the reason is told", Duration::from_secs(60), || {
        let outcome = status(&cluster, &agent.data_dir(), &["-o", "json"]);
        let blocked = serde_json::from_str::<Value>(&outcome.stdout).unwrap()["blocked"].to_string();
        if blocked.contains("node one exists") { Ok(()) } else { Err(format!("{outcome}{}", agent.log())) }
    });
    // What only a server can do is not done here.
    let mut command = cluster.minik8s(&["token", "create", "--data-dir"]);
    let refused = run(command.arg(agent.data_dir()), "").failed();
    assert!(refused.contains("this machine is an agent of https://"), "{refused}");
    agent.remove(&cluster);
}

#[test]
fn an_agent_tells_how_it_is() {
    let cluster = Cluster::control_plane();
    let agent = Agent::start(&cluster, "two");
    eventually("the agent is well", Duration::from_secs(90), || {
        let outcome = status(&cluster, &agent.data_dir(), &["-o", "json"]);
        let report: Value =
            serde_json::from_str(&outcome.stdout).map_err(|error| format!("{error}: {outcome}"))?;
        let is_well = report["state"] == "running" && report["node"]["ready"] == true;
        if is_well && report["role"] == "agent" {
            Ok(())
        } else {
            Err(format!("{report:#}\n{}", agent.log()))
        }
    });
    agent.remove(&cluster);
}
