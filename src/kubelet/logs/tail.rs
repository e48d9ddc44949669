//! Reading a log file line by line from where its last lines begin, and waiting for more. Follows the file
//! through rotation. Reading blocks.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dirwatch::{Changes, DirWatch};
use crate::files::{self, Links};

const BLOCK: usize = 64 * 1024;

pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    inode: u64,
    rest: Vec<u8>,
}

/// Offset at which the last `lines` lines of a file begin.
pub(crate) fn tail_start(file: &mut File, lines: usize) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut found = 0;
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let size = usize::try_from(end).unwrap_or(BLOCK).min(BLOCK);
        let start = end - size as u64;
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block[..size])?;
        for at in (0..size).rev() {
            let last = start + at as u64 + 1 == length;
            if block[at] == b'\n' && !last {
                found += 1;
                if found == lines {
                    return Ok(start + at as u64 + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

impl LogFile {
    /// Opens a log at the start of its last `tail` lines, or at its start.
    pub(crate) fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let mut file = files::open(path, Links::Refuse)?;
        let start = match tail {
            Some(lines) => tail_start(&mut file, lines)?,
            None => 0,
        };
        file.seek(SeekFrom::Start(start))?;
        let inode = file.metadata()?.ino();
        Ok(LogFile { path: path.to_path_buf(), file, inode, rest: Vec::new() })
    }

    /// Hands over complete lines until a block is read; false at the end of the file.
    pub(crate) fn lines(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut block = vec![0; BLOCK];
        let size = self.file.read(&mut block)?;
        if size == 0 {
            return self.next_file();
        }
        self.rest.extend_from_slice(&block[..size]);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(true) };
        for line in self.rest[..end].split(|byte| *byte == b'\n') {
            take(line);
        }
        self.rest.drain(..=end);
        Ok(true)
    }

    /// After a rotation there is a new file under the name; true if so.
    fn next_file(&mut self) -> io::Result<bool> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.ino() != self.inode => {
                self.file = files::open(&self.path, Links::Refuse)?;
                self.inode = self.file.metadata()?.ino();
                self.rest.clear();
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Tells of writes to a log's directory.
pub(crate) struct Watch(DirWatch);

impl Watch {
    pub(crate) fn on(log: &Path) -> io::Result<Self> {
        let changes = Changes::IN_MODIFY | Changes::IN_CREATE | Changes::IN_MOVED_TO;
        DirWatch::new(log.parent().unwrap_or(log), changes).map(Watch)
    }

    /// Returns after a write, or after `limit`; false if nothing was written.
    pub(crate) async fn changed(&self, limit: Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.0.changed()).await, Ok(Ok(())))
    }
}

#[cfg(test)]
mod tests;
