//! Mounts of an instance, found and taken away.

use nix::mount::{MsFlags, mount};

use super::*;

#[test]
fn only_mounts_of_the_instance_are_found_innermost_first() {
    let table = "1 1 0:1 / / rw - ext4 a rw\n\
                 2 1 0:2 / /data/one rw - tmpfs a rw\n\
                 3 1 0:2 / /data/one/in\\040side rw - tmpfs a rw\n\
                 4 1 0:2 / /data/one-more rw - tmpfs a rw\n";
    let found = mounts_below(table, &["/data/one".into()]);
    assert_eq!(found, [PathBuf::from("/data/one/in side")], "a disk of its own stays mounted");
    let found = mounts_below(table, &["/data".into()]);
    assert_eq!(found, ["/data/one-more", "/data/one/in side", "/data/one"].map(PathBuf::from));
}

/// Runs something in a mount namespace of its own, which ends with it. Mounting needs root.
fn with_mounts(work: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("passed over: mounting needs root");
        return;
    }
    let own = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
        work();
    };
    std::thread::spawn(own).join().unwrap();
}

#[test]
fn a_folder_is_kept_while_something_is_mounted_in_it() {
    with_mounts(|| {
        let place = tempfile::tempdir().unwrap();
        let (outside, folder) = (place.path().join("outside"), place.path().join("data"));
        for made in [&outside, &folder.join("volume"), &folder.join("other")] {
            fs::create_dir_all(made).unwrap();
        }
        fs::write(outside.join("file"), "").unwrap();
        let volume = folder.join("volume");
        mount(Some(&outside), &volume, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let error = remove_folder(&folder).unwrap_err().to_string();
        let wanted = format!("{} is kept: {} is mounted in it", folder.display(), volume.display());
        assert_eq!(error, wanted);
        assert!(folder.join("other").exists() && outside.join("file").exists());
        assert_eq!(unmount_below(std::slice::from_ref(&folder)), Vec::<String>::new());
        remove_folder(&folder).unwrap();
        assert!(!folder.exists() && outside.join("file").exists());
        remove_folder(&folder).unwrap();
    });
}

#[test]
fn a_disk_of_its_own_is_emptied_and_stays_mounted() {
    with_mounts(|| {
        let disk = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), disk.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::create_dir_all(disk.path().join("server/db")).unwrap();
        assert_eq!(unmount_below(&[disk.path().to_path_buf()]), Vec::<String>::new());
        remove_folder(disk.path()).unwrap();
        assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
        umount2(disk.path(), MntFlags::MNT_DETACH).expect("it is still mounted");
    });
}
