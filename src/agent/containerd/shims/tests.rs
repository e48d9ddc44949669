//! Whose a shim is, and what its pod is known by.

use super::*;

const SOCKET: &str = "/run/minik8s/containerd.sock";
const UID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_string).collect()
}

#[test]
fn a_shim_is_known_by_its_flags() {
    let sandbox = |text: &str| sandbox_of(&words(text), SOCKET);
    let shim =
        "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id abc -address /run/minik8s/containerd.sock";
    assert_eq!(sandbox(shim).as_deref(), Some("abc"));
    for other in [
        "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id abc -address /run/minik8s-1/containerd.sock",
        "/usr/bin/containerd-shim-runc-v2 -namespace moby -id abc -address /run/minik8s/containerd.sock",
        "/usr/bin/less -namespace k8s.io -id abc -address /run/minik8s/containerd.sock",
        "/usr/bin/containerd-shim-runc-v2 -address",
        "",
    ] {
        assert_eq!(sandbox(other), None, "{other}");
    }
}

#[test]
fn cgroups_tell_the_pod_and_the_container() {
    let id = "c".repeat(64);
    let files = format!("4:memory:/kubepods-minik8s/besteffort/pod{UID}/{id}");
    assert_eq!(names_in(&files), [UID.to_string(), id.clone()]);
    let slice = format!("kubepods_minik8s-besteffort-pod{}.slice", UID.replace('-', "_"));
    let systemd = format!(
        "0::/kubepods_minik8s.slice/kubepods_minik8s-besteffort.slice/{slice}/cri-containerd-{id}.scope"
    );
    assert_eq!(names_in(&systemd), [UID.to_string(), id]);
    for other in ["0::/", "1:name=systemd:/user.slice/session-1.scope", "0::/podcast/short", ""] {
        assert_eq!(names_in(other), Vec::<String>::new(), "{other}");
    }
}

#[test]
fn only_mounts_of_the_pod_are_covered() {
    let marks =
        Marks { names: [UID.to_string()].into(), namespaces: ["net:[4026532201]".to_string()].into() };
    let run_dir = Path::new("/run/minik8s");
    let covered = |root: &str, point: &str| {
        marks.cover(&kernel::Mount { root: root.to_string(), point: PathBuf::from(point) }, run_dir)
    };
    assert!(covered("/", &format!("/srv/moved/agent/kubelet/pods/{UID}/volumes/token")));
    assert!(covered("net:[4026532201]", "/run/minik8s/netns/cni-1"));
    assert!(!covered("net:[4026532201]", "/run/netns/somebodys"));
    assert!(!covered("net:[4026532202]", "/run/minik8s/netns/cni-2"));
    assert!(!covered("/", "/var/lib/minik8s"));
}

#[test]
fn descendants_are_found_over_generations() {
    let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 4)].into();
    assert_eq!(descendants(&parents, 2), [3, 4, 6].into());
    assert!(descendants(&parents, 6).is_empty());
    let own = i32::try_from(std::process::id()).unwrap();
    let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut child = Waited(child);
    let pid = i32::try_from(child.0.id()).unwrap();
    assert!(descendants(&self::parents(), own).contains(&pid));
    child.0.kill().unwrap();
    // It is not waited for yet: what has ended is nobody's descendant.
    let process = nix::sys::wait::waitid(
        nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid)),
        nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT,
    );
    process.unwrap();
    assert!(!descendants(&self::parents(), own).contains(&pid));
}

struct Waited(std::process::Child);

impl Drop for Waited {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
