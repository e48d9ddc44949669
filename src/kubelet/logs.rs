//! Container logs on disk: their format, reading them while they grow and are rotated, and rotating them.

pub(crate) mod cri_log;
pub(crate) mod rotate;
pub(crate) mod tail;

use std::path::Path;

/// The end of a container's log as text: at most so many lines and bytes. Empty if it cannot be read.
pub(crate) fn last_lines(path: &Path, lines: usize, most: u64) -> String {
    let Ok(mut log) = tail::LogFile::open(path, Some(lines)) else { return String::new() };
    let mut writer = cri_log::Writer::new(cri_log::LogOptions::default());
    let mut out = Vec::new();
    while log.lines(|line| writer.write(line, &mut out)).unwrap_or(false) {}
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    String::from_utf8_lossy(&out[out.len().saturating_sub(most)..]).into_owned()
}
