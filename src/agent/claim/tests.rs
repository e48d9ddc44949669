//! Who keeps a node from running, and who does not.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::*;

/// On a thread of its own, which leaves this machine's namespace alone.
fn in_a_namespace(check: impl FnOnce() + Send + 'static) {
    let checking = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        check();
    });
    checking.join().unwrap();
}

fn instance(data_dir: &str) -> Instance {
    Instance::of(Path::new(data_dir)).unwrap()
}

/// A process of this user that has these names.
struct Holder(Child);

impl Holder {
    fn new(uid: u32, names: [&str; 2]) -> Holder {
        let [one, two] = names.map(|name| Stdio::from(OwnedFd::from(bound(name).unwrap())));
        let mut command = Command::new("sleep");
        command.arg("600").uid(uid).stdin(one).stdout(two).stderr(Stdio::null());
        Holder(command.spawn().unwrap())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_network_namespace_takes_one_node_and_says_which_it_has() {
    in_a_namespace(|| {
        let (one, two) = (instance("/var/lib/one"), instance("/var/lib/two"));
        let claim = NodeClaim::try_take(&one).unwrap();
        let refused = NodeClaim::try_take(&two).unwrap_err().to_string();
        assert!(refused.starts_with("the node of \"/var/lib/one\" runs"), "{refused}");
        drop(claim);
        let long = instance(&format!("/var/lib/{}", "x".repeat(200)));
        drop(NodeClaim::try_take(&long).unwrap());
        drop(NodeClaim::try_take(&two).unwrap());
    });
}

#[test]
fn a_claim_is_a_nodes_only_if_its_process_administers_the_machine() {
    in_a_namespace(|| {
        let stranger = Holder::new(65534, [CLAIM, "minik8s.node:/a lie"]);
        let two = instance("/var/lib/two");
        drop(NodeClaim::try_take(&two).unwrap());
        drop(stranger);
        let of_root = bound("of root").unwrap();
        let inode = nix::sys::stat::fstat(&of_root).unwrap().st_ino;
        let stranger = Holder::new(65534, [CLAIM, &format!("x\n0: 2 0 0 2 1 {inode} @{CLAIM}")]);
        drop(NodeClaim::try_take(&two).unwrap());
        drop(stranger);
        let _lie = bound("minik8s.node:/first").unwrap();
        let _node = Holder::new(0, [CLAIM, "minik8s.node:/srv/\u{1b}[31m"]);
        let refused = NodeClaim::try_take(&two).unwrap_err().to_string();
        assert!(refused.starts_with("the node of \"/srv/\\u{1b}[31m\" runs"), "{refused}");
    });
}

#[test]
fn sockets_and_capabilities_are_read_as_the_kernel_shows_them() {
    let sockets = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                   0000000000000000: 00000002 00000000 00000000 0002 01 53090 /run/a\n\
                   0000000000000000: 00000002 00000000 00000000 0002 01 53091 @minik8s.node\n\
                   0000000000000000: 00000002 00000000 00000000 0002 01 53092 @minik8s.node:/srv/a b\n";
    let of = |inode, name| Socket { inode, name };
    let found: Vec<Socket<'_>> = named(sockets).collect();
    assert_eq!(found, [of("53091", "minik8s.node"), of("53092", "minik8s.node:/srv/a b")]);
    assert_eq!(named("nothing").count(), 0);
    assert!(has_admin_capability("Name:\tx\nCapEff:\t000001ffffffffff\n"));
    // What a container has that is not privileged.
    assert!(!has_admin_capability("Name:\tx\nCapEff:\t00000000a80425fb\n"));
    assert!(!has_admin_capability(""));
}
