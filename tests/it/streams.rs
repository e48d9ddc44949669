//! exec, attach, port-forward and cp: every kubectl of the machine, the bundled one, and what they leave
//! behind.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use minik8s_tests::{Cluster, CommandOutcome, binary, eventually, kubectls};

/// Three pods: one that serves a page and sleeps, one that echoes its standard input, one with a terminal.
const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: web, image: 'busybox:test', ports: [{name: http, containerPort: 80}]}
  - {name: other, image: 'busybox:test', command: [sleep, '100000']}
---
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: echo, image: 'busybox:test', stdin: true, command: [sh, -c, 'while read line; do echo got $line; done; sleep 100000']}
---
apiVersion: v1
kind: Pod
metadata: {name: terminal}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: terminal, image: 'busybox:test', stdin: true, tty: true, command: [sh]}
";

fn start() -> Cluster {
    let cluster = Cluster::with_node();
    cluster.kubectl_with(&["apply", "-f", "-"], PODS).ok();
    for pod in ["web", "echo", "terminal"] {
        cluster.wait_for_pod(pod);
    }
    cluster
}

/// Old and new, and ours (which has no path of its own).
fn programs() -> Vec<Option<PathBuf>> {
    kubectls().into_iter().map(Some).chain([None]).collect()
}

fn run(cluster: &Cluster, program: Option<&Path>, arguments: &[&str], input: &str) -> CommandOutcome {
    match program {
        Some(program) => cluster.kubectl_of(program, arguments, input),
        None => cluster.own_kubectl_with(arguments, input),
    }
}

/// The same as a process.
fn command(cluster: &Cluster, program: Option<&Path>, arguments: &[&str]) -> Command {
    let mut command = cluster.command(program.unwrap_or(&binary()));
    if program.is_none() {
        command.arg("kubectl");
    }
    command.args(arguments).env("HOME", cluster.folder()).env("KUBECONFIG", cluster.kubeconfig());
    command
}

#[test]
fn commands_run_with_every_kubectl() {
    let cluster = start();
    let large = cluster.folder().join("large");
    let bytes: Vec<u8> = (0..10_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&large, &bytes).expect("a large file");
    for program in programs() {
        let program = program.as_deref();
        eprintln!(
            "with {}",
            program.map_or("the bundled one".into(), |program| program.display().to_string())
        );
        let exec = |container: &str, words: &[&str], input: &str| {
            run(&cluster, program, &[&["exec", "-i", "web", "-c", container, "--"], words].concat(), input)
        };
        let failed = exec("web", &["sh", "-c", "echo out; echo err >&2; exit 7"], "");
        assert_eq!((failed.code, &*failed.stdout), (Some(7), "out\n"), "{failed}");
        assert!(
            failed.stderr.contains("err\n") && failed.stderr.contains("command terminated with exit code 7"),
            "{failed}"
        );
        assert_eq!(exec("web", &["wc", "-c"], "hello").ok(), "5\n", "the end of the input arrives");
        let absent = exec("web", &["nosuch"], "").failed();
        assert!(absent.contains("executable file not found"), "{absent}");
        let wrong = exec("none", &["true"], "").failed();
        assert!(wrong.contains("container none is not valid for pod web"), "{wrong}");
        let defaulted = run(&cluster, program, &["exec", "web", "--", "hostname"], "");
        assert_eq!(defaulted.clone().ok(), "web\n");
        assert!(defaulted.stderr.contains("Defaulted container \"web\" out of: web, other"), "{defaulted}");
        // Ten million bytes there and back.
        let input = fs::File::open(&large).expect("the large file");
        let output = command(&cluster, program, &["exec", "-i", "web", "-c", "other", "--", "cat"])
            .stdin(input)
            .output()
            .expect("kubectl runs");
        assert!(output.stdout == bytes, "{} of {} bytes came back", output.stdout.len(), bytes.len());
        copy_there_and_back(&cluster, program);
    }
    client_that_is_killed(&cluster);
}

fn copy_there_and_back(cluster: &Cluster, program: Option<&Path>) {
    let folder = cluster.folder().join("copied");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("from/deep")).expect("a directory");
    fs::write(folder.join("from/deep/file"), vec![7; 300_000]).expect("a file");
    fs::write(folder.join("from/name with 'quotes'"), "text").expect("a file");
    let (from, to) = (folder.join("from").display().to_string(), folder.join("to").display().to_string());
    run(cluster, program, &["exec", "web", "-c", "other", "--", "rm", "-rf", "/tmp/there"], "").ok();
    run(cluster, program, &["cp", &from, "web:/tmp/there", "-c", "other"], "").ok();
    run(cluster, program, &["cp", "default/web:/tmp/there", &to, "-c", "other"], "").ok();
    assert_eq!(fs::read(folder.join("to/deep/file")).expect("the file"), vec![7; 300_000]);
    assert_eq!(fs::read_to_string(folder.join("to/name with 'quotes'")).expect("the file"), "text");
    // Whether upstream's tells of this is a matter of luck: two of its goroutines race for the end.
    if program.is_none() {
        let missing = run(cluster, program, &["cp", "web:/none", &to, "-c", "other"], "").failed();
        assert!(missing.contains("No such file"), "{missing}");
    }
}

/// A command whose client is killed reads the end of its input, and nothing of it stays.
fn client_that_is_killed(cluster: &Cluster) {
    for program in programs() {
        let mut child = command(
            cluster,
            program.as_deref(),
            &["exec", "-i", "web", "-c", "other", "--", "sh", "-c", "echo started; exec cat"],
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("its output")).read_line(&mut line).expect("a line");
        assert_eq!(line, "started\n");
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
    }
    eventually("the commands have ended", Duration::from_secs(30), || {
        let all = cluster.kubectl(&["exec", "web", "-c", "other", "--", "ps"]);
        let cats = all.stdout.lines().filter(|line| line.ends_with(" cat")).count();
        if all.success && cats == 0 { Ok(()) } else { Err(all.to_string()) }
    });
}

#[test]
fn running_containers_are_attached_to() {
    let cluster = start();
    for program in programs() {
        let mut child = command(&cluster, program.as_deref(), &["attach", "-i", "echo"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("kubectl starts");
        let mut input = child.stdin.take().expect("its input");
        input.write_all(b"hello\n").expect("it takes input");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let said = lines.by_ref().find(|line| line.as_ref().is_ok_and(|line| line == "got hello"));
        assert!(said.is_some(), "{program:?}");
        // Who leaves leaves the container as it is.
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
        cluster.wait_for_pod("echo");
    }
    interactive_pods(&cluster);
    a_real_terminal(&cluster);
}

/// `run -i --rm`: a pod for one pipe.
fn interactive_pods(cluster: &Cluster) {
    for program in [None, kubectls().pop()] {
        let arguments =
            ["run", "once", "-i", "--rm", "-q", "--restart=Never", "--image=busybox:test", "--command", "--"];
        let words = ["sh", "-c", "read line; echo got $line; exit 3"];
        let outcome = run(cluster, program.as_deref(), &[&arguments[..], &words].concat(), "a line\n");
        assert!(outcome.stdout.contains("got a line"), "{outcome}");
        assert_eq!(outcome.code, Some(3), "{outcome}");
        eventually("the pod is gone", Duration::from_secs(30), || {
            let left = cluster.kubectl(&["get", "pod", "once", "--ignore-not-found", "-o", "name"]);
            if left.stdout.is_empty() { Ok(()) } else { Err(left.to_string()) }
        });
    }
}

/// A session on a pseudo-terminal (made by `script`), whose size the command sees.
fn a_real_terminal(cluster: &Cluster) {
    for program in [None, kubectls().pop()] {
        let shown = match &program {
            Some(program) => program.display().to_string(),
            None => format!("{} kubectl", binary().display()),
        };
        let line = format!("stty rows 33 cols 99; {shown} exec -it web -c other -- sh");
        let mut child = cluster
            .command(Path::new("script"))
            .args(["-qec", &line, "/dev/null"])
            .env("HOME", cluster.folder())
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script starts");
        let mut input = child.stdin.take().expect("its input");
        let mut output = child.stdout.take().expect("its output");
        let mut seen = String::new();
        wait_for(&mut output, &mut seen, "# ");
        // The size arrives beside the first input, so it is asked for until it is there.
        input
            .write_all(b"until [ \"$(stty size)\" = '33 99' ]; do :; done; tty; stty size; exit 5\n")
            .expect("input");
        wait_for(&mut output, &mut seen, "33 99\r\n");
        let status = child.wait().expect("it ends");
        output.read_to_string(&mut seen).expect("the rest");
        assert!(seen.contains("/dev/pts/"), "{seen}");
        assert_eq!(status.code(), Some(5), "{seen}");
    }
}

/// Reads until a text has come.
#[track_caller]
fn wait_for(output: &mut impl Read, seen: &mut String, text: &str) {
    let mut buffer = [0; 1024];
    while !seen.contains(text) {
        let length = output.read(&mut buffer).expect("output");
        assert!(length > 0, "{text:?} is not in {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

/// A forwarder that is killed with the test.
struct Forwarder {
    child: Child,
    port: u16,
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(cluster: &Cluster, program: Option<&Path>, target: &str, port: &str) -> Forwarder {
    let mut child = command(cluster, program, &["port-forward", "--address=127.0.0.1", target, port])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let line = lines.next().expect("a line").expect("text");
    let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
    let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    // What it says further is read by nobody.
    std::thread::spawn(move || lines.for_each(drop));
    Forwarder { child, port }
}

#[test]
fn ports_are_forwarded_and_nothing_leaks() {
    let cluster = start();
    for program in programs() {
        let forwarder = forward(&cluster, program.as_deref(), "pod/web", ":80");
        let url = format!("http://127.0.0.1:{}/", forwarder.port);
        let page = minik8s_tests::run(
            cluster.command(Path::new("busybox")).args(["wget", "-q", "-O", "-", &url]),
            "",
        );
        assert_eq!(page.ok(), "hello from busybox\n", "{program:?}");
    }
    let server = cluster.pid().expect("a server");
    let descriptors = || fs::read_dir(format!("/proc/{server}/fd")).map_or(0, Iterator::count);
    let before = descriptors();
    for program in [None, kubectls().pop()] {
        let forwarder = forward(&cluster, program.as_deref(), "web", ":http");
        let line = format!(
            "i=0; while [ $i -lt 1000 ]; do busybox wget -q -O /dev/null http://127.0.0.1:{}/ || exit 1; i=$((i+1)); done",
            forwarder.port
        );
        minik8s_tests::run(cluster.command(Path::new("sh")).args(["-c", &line]), "").ok();
        let during = descriptors();
        assert!(
            during < before + 40,
            "a connection is one stream, not a descriptor: {before}, then {during}"
        );
    }
    eventually("everything is given back", Duration::from_secs(30), || {
        let after = descriptors();
        if after <= before + 5 { Ok(()) } else { Err(format!("{before} descriptors before, {after} after")) }
    });
}
