//! `install.sh`: from a clone, over the wire, again over a running cluster; then everything is taken back.
//!
//! Files that it would put in fixed places (`/etc/minik8s`, a home directory) are in mount and network
//! namespaces of the test's own, so the machine's are not touched.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use minik8s_tests::{Cluster, CommandOutcome, Options, binary, run};
use sha2::{Digest, Sha256};

/// A place for one test's installations.
struct Site {
    // Only its namespace and directory are used; its server is never started.
    cluster: Cluster,
}

impl Site {
    fn new() -> Self {
        let site = Site { cluster: Cluster::prepare(Options { node: true, flags: Vec::new() }) };
        for folder in ["etc", "home", "bin", "log", "systemd"] {
            fs::create_dir(site.path(folder)).unwrap();
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cluster.folder().join(name)
    }

    /// Runs a shell line with the fixed places covered by the site's own.
    fn shell(&self, line: &str, variables: &[(&str, &str)]) -> CommandOutcome {
        let folder = self.cluster.folder().display();
        let cover = format!(
            "mkdir -p /etc/minik8s && mount --bind {folder}/etc /etc/minik8s && mount --bind {folder}/log /var/log && \
             exec env HOME={folder}/home PATH={folder}/bin:$PATH sh -c \"$0\""
        );
        let mut command = self.cluster.network.limited_command(0, "unshare".as_ref());
        command.args(["--mount", "--propagation", "slave", "sh", "-c", &cover, line]);
        command.env_remove("KUBECONFIG").env("INSTALL_MINIK8S_BIN_DIR", self.path("bin"));
        for (name, value) in variables {
            command.env(name, value);
        }
        run(&mut command, "")
    }

    fn flags(&self) -> String {
        let data = self.cluster.data_dir();
        format!("--data-dir {} --https-listen-port 0 --kubelet-port 0 --node-name one", data.display())
    }
}

/// Serves files of a directory over HTTP, one request at a time, until the process ends.
fn serve(network: &minik8s_tests::Network, folder: &Path) -> std::process::Child {
    let mut command = network.command(0, "busybox".as_ref());
    command.args(["httpd", "-f", "-p", "127.0.0.1:8000", "-h"]).arg(folder).spawn().unwrap()
}

fn wait_for_server(site: &Site) {
    minik8s_tests::eventually("the file server answers", std::time::Duration::from_secs(10), || {
        let outcome = run(
            site.cluster
                .network
                .command(0, "curl".as_ref())
                .args(["-sf", "http://127.0.0.1:8000/install.sh"]),
            "",
        );
        if outcome.success { Ok(()) } else { Err(outcome.to_string()) }
    });
}

#[test]
fn a_download_installs_upgrades_and_is_taken_back() {
    let site = Site::new();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let release = site.path("release");
    fs::create_dir(&release).unwrap();
    let program = fs::read(binary()).unwrap();
    let sum: String = Sha256::digest(&program).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("minik8s-linux-{arch}");
    fs::write(release.join(&name), &program).unwrap();
    fs::write(release.join(format!("{name}.sha256")), format!("{}  {name}\n", "0".repeat(64))).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("install.sh");
    fs::copy(script, release.join("install.sh")).unwrap();
    let mut server = serve(&site.cluster.network, &release);
    wait_for_server(&site);
    let flags = site.flags();
    let install = "curl -sfL http://127.0.0.1:8000/install.sh | sh -";
    let variables =
        [("INSTALL_MINIK8S_BASE_URL", "http://127.0.0.1:8000"), ("INSTALL_MINIK8S_EXEC", flags.as_str())];

    let refused = site.shell(install, &variables).failed();
    assert!(refused.contains("nothing is installed"), "{refused}");
    assert!(!site.path("bin/minik8s").exists());

    fs::write(release.join(format!("{name}.sha256")), format!("{sum}  {name}\n")).unwrap();
    // What could not start is told at once, and nothing of it counts for the next run.
    let wrong = format!("{flags} --cluster-cidr nonsense");
    let wrong =
        [("INSTALL_MINIK8S_BASE_URL", "http://127.0.0.1:8000"), ("INSTALL_MINIK8S_EXEC", wrong.as_str())];
    let refused = site.shell(install, &wrong).failed();
    let last = refused.lines().last().unwrap_or_default();
    assert!(last.starts_with("install.sh: ") && last.contains("correct --cluster-cidr"), "{refused}");
    assert!(!site.path("etc/minik8s.env").exists());

    let said = site.shell(install, &variables).ok();
    assert!(said.contains("the cluster is ready") && said.contains("minik8s uninstall --data-dir"), "{said}");
    let config = site.cluster.data_dir().join("server/kubeconfig.yaml");
    assert_eq!(fs::read_link(site.path("home/.kube/config")).unwrap(), config);
    let kubectl = |arguments: &str| site.shell(&format!("minik8s kubectl {arguments}"), &[]);
    assert!(kubectl("get nodes").ok().contains(" Ready "));
    kubectl("run stays --image=busybox:test").ok();
    kubectl("wait pod/stays --for=condition=Ready --timeout=60s").ok();
    let id = "get pod stays -o jsonpath={.status.containerStatuses[0].containerID}/{.status.containerStatuses[0].restartCount}";
    let before = kubectl(id).ok();
    let first = fs::read_to_string(site.cluster.data_dir().join("lock")).unwrap();

    // Again: the program and the process are new, the pod is the same.
    let said = site.shell(install, &variables).ok();
    assert!(said.contains("the cluster is ready") && said.contains("the same as before"), "{said}");
    assert!(!said.contains("minik8s uninstall"), "the first session is over: {said}");
    assert_ne!(fs::read_to_string(site.cluster.data_dir().join("lock")).unwrap(), first);
    let after = || site.shell(&format!("minik8s kubectl --kubeconfig {} {id}", config.display()), &[]);
    assert_eq!(after().ok(), before);

    // The commands know what is installed: where, with which flags, by whom it is kept.
    let data = site.cluster.data_dir().display().to_string();
    site.shell("minik8s stop", &[]).ok();
    let stopped = site.shell(&format!("minik8s status --data-dir {data}"), &[]).failed();
    assert!(stopped.contains("start it with 'minik8s start'"), "{stopped}");
    after().failed();
    site.shell("minik8s start", &[]).ok();
    assert_eq!(after().ok(), before);
    let again = site.shell("minik8s start", &[]).ok();
    assert!(again.contains("it runs already"), "{again}");
    site.shell("minik8s restart", &[]).ok();
    assert_eq!(after().ok(), before);

    let said = site.shell(&format!("minik8s uninstall --data-dir {data}"), &[]).ok();
    assert!(said.contains("is removed"), "{said}");
    for gone in ["bin/minik8s", "etc/installed-files", "home/.kube/config", "log/minik8s.log"] {
        assert!(!site.path(gone).exists(), "{gone} is left");
    }
    let _ = server.kill();
    let _ = server.wait();
}

#[test]
fn what_is_missing_is_said_in_one_line() {
    let site = Site::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("install.sh");
    // Outside a clone there is nothing to build from.
    let lone = site.path("install.sh");
    fs::copy(script, &lone).unwrap();
    let line = format!("sh {}", lone.display());
    let said = site.shell(&line, &[]).failed();
    assert!(said.contains("set INSTALL_MINIK8S_BASE_URL"), "{said}");
    let said = site.shell(&line, &[("MINIK8S_URL", "https://192.0.2.1:6443")]).failed();
    assert!(said.contains("MINIK8S_TOKEN is not"), "{said}");
    let said = site.shell(&format!("{line} --frob"), &[]).failed();
    assert!(said.contains("unknown argument --frob") && said.contains("--help"), "{said}");
    let help = site.shell(&format!("{line} --help"), &[]).ok();
    assert!(help.starts_with("Installs minik8s") && help.contains("INSTALL_MINIK8S_EXEC"), "{help}");
    assert!(!site.path("bin/minik8s").exists(), "help installs nothing");
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-s"]).current_dir("/");
    let said = run(&mut nobody, &fs::read_to_string(&lone).unwrap()).failed();
    assert!(said.contains("run as root"), "{said}");
}

#[test]
fn the_service_files_are_well_formed() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("install.sh");
    let text = fs::read_to_string(&script).unwrap();
    for needed in ["Type=notify", "KillMode=process", "Delegate=yes", "supervisor=supervise-daemon"] {
        assert!(text.contains(needed), "{needed}");
    }
    run(Command::new("sh").arg("-n").arg(&script), "").ok();
    // The functions that print the files, run alone; systemd's own checker judges the unit where it is
    // installed.
    let print = |function: &str| {
        let body = text.replace("\nmain \"$@\"\n", &format!("\ncommand=server\n{function}\n"));
        let mut child = Command::new("sh")
            .arg("-s")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        let mut printed = String::new();
        child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        child.wait().unwrap();
        printed
    };
    let unit = print("systemd_unit");
    assert!(unit.contains("ExecStart=/usr/local/bin/minik8s server"), "{unit}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("minik8s.service");
    fs::write(&path, unit.replace("/usr/local/bin/minik8s", "/bin/true")).unwrap();
    let checked = Command::new("systemd-analyze").arg("verify").arg(&path).output();
    if let Ok(checked) = checked {
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(!said.contains("minik8s.service"), "{said}");
    }
    let script = folder.path().join("openrc");
    fs::write(&script, print("openrc_script")).unwrap();
    run(Command::new("sh").arg("-n").arg(&script), "").ok();
}
