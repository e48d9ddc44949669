//! The machine's clock is set under a running cluster, forward and back, by hours, days and most of a year:
//! nobody notices.
//!
//! The server runs with libfaketime, which moves its wall clock and leaves its monotonic clock alone, as
//! setting the clock does. The runtime keeps the machine's clock, so that of containers' own times nothing is
//! shown here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minik8s_tests::{BUSYBOX, Cluster, CommandOutcome, Options, binary, eventually, run};
use serde_json::Value;

struct Clocked {
    cluster: Cluster,
    offset: PathBuf,
    library: PathBuf,
}

pub(crate) fn library() -> PathBuf {
    let places = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|of| PathBuf::from(format!("/usr/lib/{of}/faketime/libfaketimeMT.so.1")));
    let found = places.into_iter().find(|place| place.exists());
    found.expect("libfaketime is missing: tests/run.sh installs it (package faketime)")
}

impl Clocked {
    fn start() -> Self {
        let cluster = Cluster::prepare(Options { node: true, flags: Vec::new() });
        let mut clocked = Clocked { offset: cluster.folder().join("offset"), library: library(), cluster };
        fs::write(&clocked.offset, "+0").unwrap();
        for (name, value) in clocked.variables() {
            clocked.cluster.set_variable(name, value);
        }
        clocked.cluster.start();
        clocked.cluster.wait_until_ready();
        clocked
    }

    fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.display().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("FAKETIME_CACHE_DURATION", "1".into()),
        ]
    }

    /// The bundled kubectl on the server's clock: clients of the same machine.
    fn kubectl(&self, arguments: &[&str]) -> CommandOutcome {
        let mut command = self.cluster.network.limited_command(0, &binary());
        command.arg("kubectl").args(arguments).envs(self.variables());
        command.env("HOME", self.cluster.folder()).env("KUBECONFIG", self.cluster.kubeconfig());
        run(&mut command, "")
    }

    fn get(&self, what: &str, name: &str) -> Value {
        self.kubectl(&["get", what, name, "-o", "json"]).json()
    }

    fn times_set(&self) -> usize {
        self.cluster.log().matches("the machine's clock was set").count()
    }

    fn set(&self, offset: &str) {
        let before = self.times_set();
        fs::write(&self.offset, offset).unwrap();
        eventually("the server notices", Duration::from_secs(30), || {
            if self.times_set() > before { Ok(()) } else { Err(self.cluster.log()) }
        });
    }

    /// Whether the pod's own token is accepted.
    fn token_works(&self, uid: &str) -> std::io::Result<()> {
        let volumes =
            self.cluster.data_dir().join(format!("agent/kubelet/pods/{uid}/volumes/kubernetes.io~projected"));
        let volume = fs::read_dir(&volumes).unwrap().next().unwrap().unwrap().path();
        let token = fs::read_to_string(volume.join("token"))?;
        let config = fs::read_to_string(self.cluster.kubeconfig()).unwrap();
        let url = config.lines().find_map(|line| line.trim().strip_prefix("server: ")).unwrap().to_string();
        let mut command = self.cluster.network.limited_command(0, "curl".as_ref());
        command.args([
            "-sk",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            &format!("Authorization: Bearer {token}"),
        ]);
        let code = run(command.arg(format!("{url}/api/v1/namespaces/default/pods")), "").stdout;
        // The default service account may nothing; 401 would say that it is not known.
        if code == "403" { Ok(()) } else { Err(std::io::Error::other(format!("the answer is {code}"))) }
    }

    fn renew_time(&self) -> Value {
        let lease = self.kubectl(&["get", "lease", "one", "-n", "kube-node-lease", "-o", "json"]).json();
        lease["spec"]["renewTime"].clone()
    }
}

/// Seconds since 1970 at which a certificate begins and ends.
fn validity(certificate: &Path) -> (i64, i64) {
    let date = |flag: &str| {
        let mut command = std::process::Command::new("openssl");
        let line = run(command.args(["x509", "-noout", flag, "-in"]).arg(certificate), "").ok();
        let text = line.trim().split_once('=').unwrap().1.to_string();
        run(std::process::Command::new("date").args(["-d", &text, "+%s"]), "").ok().trim().parse().unwrap()
    };
    (date("-startdate"), date("-enddate"))
}

fn now() -> i64 {
    run(std::process::Command::new("date").arg("+%s"), "").ok().trim().parse().unwrap()
}

const DAY: i64 = 24 * 3600;

#[test]
fn setting_the_clock_disturbs_nobody() {
    let clocked = Clocked::start();
    clocked.kubectl(&["run", "stays", &format!("--image={BUSYBOX}")]).ok();
    clocked.cluster.wait_for_pod("stays");
    let uid = clocked.get("pod", "stays")["metadata"]["uid"].as_str().unwrap().to_string();
    let container = |clocked: &Clocked| {
        let status = clocked.get("pod", "stays")["status"]["containerStatuses"][0].clone();
        (status["containerID"].clone(), status["restartCount"].clone(), status["ready"].clone())
    };
    let before = container(&clocked);
    let mut revision = 0;
    for (round, offset) in ["+1h", "+10d", "-1h", "-10d", "+300d", "+0"].into_iter().enumerate() {
        let renewed = clocked.renew_time();
        clocked.set(offset);
        eventually("the pod's token is good", Duration::from_secs(30), || clocked.token_works(&uid));
        // The administrator's certificate lives for 90 days: a leap past its end is followed by its renewal.
        eventually("the administrator gets in", Duration::from_secs(30), || {
            let outcome = clocked.kubectl(&["get", "--raw", "/readyz"]);
            if outcome.success { Ok(()) } else { Err(outcome.to_string()) }
        });
        // Pods are still scheduled, started, and ended.
        let name = format!("round-{round}");
        clocked.kubectl(&["run", &name, &format!("--image={BUSYBOX}"), "--restart=Never", "--", "true"]).ok();
        clocked
            .kubectl(&[
                "wait",
                &format!("pod/{name}"),
                "--for=jsonpath={.status.phase}=Succeeded",
                "--timeout=60s",
            ])
            .ok();
        clocked.kubectl(&["logs", &name]).ok();
        let next: i64 =
            clocked.get("pod", &name)["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(next > revision, "{offset}: revisions go on");
        revision = next;
        eventually("the node's lease is renewed", Duration::from_secs(60), || {
            let now = clocked.renew_time();
            if now == renewed { Err(now.to_string()) } else { Ok(()) }
        });
        let node = clocked.get("node", "one");
        assert_eq!(node["spec"]["taints"], Value::Null, "{offset}");
        let ready = node["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["type"] == "Ready")
            .unwrap()
            .clone();
        assert_eq!(ready["status"], "True", "{offset}: {ready}");
        assert_eq!(container(&clocked), before, "{offset}");
        let events = clocked.kubectl(&["get", "events", "--field-selector=involvedObject.name=stays"]).ok();
        assert!(
            events.contains("Started"),
            "{offset}: events live an hour, whatever the clock says: {events}"
        );
        check_certificates(&clocked, offset);
    }
}

/// Near their end they are made anew, and those from a future that did not come, too.
fn check_certificates(clocked: &Clocked, offset: &str) {
    let data = clocked.cluster.data_dir();
    // With how many days each has left at least: it is renewed 90 days before its end, the
    // administrator's 45.
    for (name, days) in [
        ("server/tls/serving-kube-apiserver.crt", 80),
        ("server/tls/client-admin.crt", 44),
        ("agent/kubelet-serving.crt", 80),
    ] {
        let shift = match offset {
            "+300d" => 300 * DAY,
            _ => 0,
        };
        eventually("a certificate holds now and for a while", Duration::from_secs(60), || {
            let (begins, ends) = validity(&data.join(name));
            let now = now() + shift;
            let good = begins < now - 15 * DAY && ends > now + days * DAY;
            if good {
                Ok(())
            } else {
                Err(format!("{offset}: {name} is good from {begins} to {ends}, now is {now}"))
            }
        });
    }
}
