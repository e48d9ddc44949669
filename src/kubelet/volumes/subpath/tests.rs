//! Directories that are made for a part of a volume.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

#[test]
fn missing_directories_have_the_volumes_mode_and_stay_inside() {
    let dir = tempfile::tempdir().unwrap();
    for bits in [0o777, 0o2770, 0o750] {
        let volume = dir.path().join(format!("{bits:o}"));
        std::fs::create_dir(&volume).unwrap();
        std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(bits)).unwrap();
        symlink("/", volume.join("out")).unwrap();
        let root = open(None, &volume, OFlag::O_DIRECTORY).unwrap();
        make(&root, "a/b").unwrap();
        make(&root, "out/c").unwrap();
        for made in ["a", "a/b", "c"] {
            let mode = std::fs::metadata(volume.join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, bits, "{made}");
        }
    }
}
