//! Files that are not what their name promises.

use std::os::unix::fs::symlink;
use std::time::Duration;

use nix::sys::stat::Mode;

use super::*;

/// Runs something that must not block.
fn promptly<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(20)).expect("it blocks")
}

#[test]
fn the_end_of_a_file_is_read_and_no_more() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("message");
    std::fs::write(&path, "0123456789").unwrap();
    assert_eq!(read_end(&path, 4).unwrap(), b"6789");
    assert_eq!(read_end(&path, 100).unwrap(), b"0123456789");
    // The kernel says that such a file is empty, and goes on for ever.
    assert!(read_end(Path::new("/dev/zero"), 4).is_err());
}

#[test]
fn a_fifo_blocks_nobody() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("message");
    nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o666)).unwrap();
    let error = promptly(move || read_end(&path, 10)).unwrap_err();
    assert_eq!(error.to_string(), "it is not a regular file");
}

#[test]
fn a_link_leads_nowhere() {
    let place = tempfile::tempdir().unwrap();
    let secret = place.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let link = place.path().join("message");
    symlink(&secret, &link).unwrap();
    assert!(read_end(&link, 10).is_err());
    let directory = place.path().join("directory");
    symlink(place.path(), &directory).unwrap();
    assert!(read_end(&directory.join("secret"), 10).is_err(), "not on the way either");
    assert_eq!(read_text(link.to_str().unwrap()), "secret", "the machine's own files may be links");
    assert!(read_end(place.path(), 10).is_err(), "a directory is no file");
}

#[test]
fn nothing_outside_a_volume_is_read_as_its_file() {
    let place = tempfile::tempdir().unwrap();
    let volume = place.path().join("volume");
    std::fs::create_dir_all(volume.join("sub")).unwrap();
    std::fs::write(place.path().join("secret"), "secret").unwrap();
    std::fs::write(volume.join("sub/file"), "own").unwrap();
    symlink("/", volume.join("root")).unwrap();
    symlink("sub/file", volume.join("link")).unwrap();
    let read = |path: &str| read_inside(&volume, path, 6);
    assert_eq!(read("sub/file").unwrap().unwrap(), b"own");
    assert_eq!(read("/sub/file").unwrap().unwrap(), b"own", "the top is the volume's");
    assert_eq!(read_inside(&volume, "sub/file", 2).unwrap(), None);
    let secret = place.path().join("secret");
    let secret = secret.to_str().unwrap();
    for path in ["../secret", "sub/../../secret", secret, &format!("root{secret}"), "link", "", "/", "sub"] {
        assert!(read(path).is_err(), "{path}");
    }
    symlink(&volume, place.path().join("other")).unwrap();
    assert!(read_inside(&place.path().join("other"), "sub/file", 6).is_err(), "a link is no volume");
}

#[test]
fn a_directory_is_made_at_no_link() {
    let root = tempfile::tempdir().unwrap();
    let (real, elsewhere) = (root.path().join("real"), root.path().join("elsewhere"));
    let parent = root.path().join("parent");
    std::fs::create_dir(&elsewhere).unwrap();
    symlink(&real, &parent).unwrap();
    std::fs::create_dir(&real).unwrap();
    make_inside(&parent, OsStr::new("new"), 0o777).unwrap();
    let mode = |name: &str| std::fs::metadata(real.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("new"), 0o777, "whatever the mask is");
    std::fs::set_permissions(real.join("new"), Permissions::from_mode(0o750)).unwrap();
    make_inside(&parent, OsStr::new("new"), 0o777).unwrap();
    assert_eq!(mode("new"), 0o750, "what is there keeps its mode");
    symlink(&elsewhere, real.join("link")).unwrap();
    symlink(root.path().join("none"), real.join("dangling")).unwrap();
    std::fs::write(real.join("file"), "").unwrap();
    for name in ["link", "dangling", "file", "..", "a/b"] {
        assert!(make_inside(&parent, OsStr::new(name), 0o777).is_err(), "{name}");
    }
    assert!(!root.path().join("none").exists());
}
