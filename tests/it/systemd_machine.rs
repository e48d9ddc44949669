//! A Debian with systemd and cgroup version 2, from `install.sh` over a power cut to `minik8s uninstall`.
//!
//! Belongs to the long tests: the machine is emulated.

use std::path::Path;
use std::time::Duration;

use minik8s_tests::{BUSYBOX, VirtualMachine, binary, eventually, write_busybox_image};
use sha2::{Digest, Sha256};

const LIMITED: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"limited"},"spec":{"containers":[{"name":"a",
"image":"busybox:test","command":["sleep","100000"],"resources":{"limits":{"cpu":"200m","memory":"50Mi"}}}]}}"#;

const IDS: &str =
    "kubectl get pods -o 'jsonpath={range .items[*]}{.status.containerStatuses[0].containerID} {end}'";

#[test]
fn a_machine_of_systemd_is_installed_cut_off_and_cleared() {
    if std::env::var_os("MINIK8S_LONG").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("busybox.tar");
    write_busybox_image(&image).unwrap();
    let program = binary();
    let sum: String =
        Sha256::digest(std::fs::read(&program).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    let sum_file = folder.path().join("sum");
    std::fs::write(&sum_file, format!("{sum}  minik8s-linux-amd64\n")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("install.sh");
    let files = [
        ("minik8s-linux-amd64", program.as_path()),
        ("minik8s-linux-amd64.sha256", sum_file.as_path()),
        ("install.sh", script.as_path()),
        ("busybox.tar", image.as_path()),
    ];
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm-root");
    let Some(mut machine) = VirtualMachine::boot(&root, &files) else {
        eprintln!("skipped: there is no qemu, debootstrap or ssh on this machine");
        return;
    };
    let said = machine.sh("INSTALL_MINIK8S_BASE_URL=file:///opt sh /opt/install.sh").ok();
    assert!(said.contains("the cluster is ready"), "{said}");
    assert_eq!(machine.sh("systemctl is-active minik8s").ok(), "active\n");

    slices_carry_the_limits(&machine);
    let before = machine.sh(IDS).ok();
    machine.sh("systemctl restart minik8s").ok();
    assert_eq!(machine.sh(IDS).ok(), before, "a restart touches no pod");

    pods_survive_a_power_cut(&mut machine);

    let said = machine.sh("minik8s uninstall").ok();
    assert!(said.contains("is removed"), "{said}");
    let left = machine.sh(
        "systemctl list-units --all '*kubepods*' 'cri-*' 'minik8s*' --no-legend; find /sys/fs/cgroup -name '*kubepods*'; \
         ls -d /var/lib/minik8s /run/minik8s /etc/minik8s /var/lib/cni 2>/dev/null; pgrep -a 'minik8s|pause'; true",
    );
    assert_eq!(left.ok(), "");
}

fn slices_carry_the_limits(machine: &VirtualMachine) {
    machine.sh("cp /opt/busybox.tar /var/lib/minik8s/agent/images/").ok();
    machine.sh(&format!("echo '{LIMITED}' | kubectl apply -f -")).ok();
    machine.sh("kubectl wait pod/limited --for=condition=Ready --timeout=240s").ok();
    let limits = "cat /sys/fs/cgroup/kubepods_minik8s.slice/kubepods_minik8s-pod*.slice/cpu.max \
                  /sys/fs/cgroup/kubepods_minik8s.slice/kubepods_minik8s-pod*.slice/memory.max";
    for when in ["true", "systemctl daemon-reload"] {
        assert_eq!(machine.sh(&format!("{when}; {limits}")).ok(), "20000 100000\n52428800\n", "after {when}");
    }
}

fn pods_survive_a_power_cut(machine: &mut VirtualMachine) {
    machine.sh(&format!("kubectl create deployment web --image={BUSYBOX} --replicas=2")).ok();
    machine.sh("kubectl rollout status deployment/web --timeout=240s").ok();
    machine.sh("kubectl create configmap acknowledged --from-literal=a=b").ok();
    machine.cut_power();
    // `Ready` may still be what was true before: only new containers tell.
    let restarts =
        "kubectl get pods -l app=web -o 'jsonpath={.items[*].status.containerStatuses[0].restartCount}'";
    eventually("the pods have new containers", Duration::from_secs(300), || {
        let outcome = machine.sh(restarts);
        if outcome.stdout == "1 1" { Ok(()) } else { Err(outcome.to_string()) }
    });
    machine.sh("kubectl rollout status deployment/web --timeout=240s").ok();
    assert_eq!(machine.sh("kubectl get configmap acknowledged -o 'jsonpath={.data.a}'").ok(), "b");
}
