//! Unmounting: newest first, lazily if something still holds on, and only below a directory of ours.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

/// Unmounts everything below a directory (and on it).
pub(crate) fn unmount_below(directory: &Path) -> io::Result<()> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    for point in mount_points(&text, directory).into_iter().rev() {
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn mount_points(mountinfo: &str, directory: &Path) -> Vec<PathBuf> {
    let point = |line: &str| line.split(' ').nth(4).map(|field| PathBuf::from(unescape(field)));
    mountinfo.lines().filter_map(point).filter(|point| point.starts_with(directory)).collect()
}

/// The kernel writes spaces and the like as `\040`.
fn unescape(field: &str) -> String {
    let mut out = Vec::new();
    let bytes = field.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if bytes[at] == b'\\' => {
                out.push(byte);
                at += 4;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
