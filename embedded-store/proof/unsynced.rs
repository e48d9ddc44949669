//! Power cuts for a whole process, sled included: a preloaded library keeps what every write replaced, and after the
//! process is killed any part of what it had not synced is taken back, sector by sector.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Dice;

const SECTOR: usize = 512;

/// Builds the library into a directory.
pub(crate) fn build(dir: &Path) -> PathBuf {
    let library = dir.join("unsynced.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("proof/unsynced.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).status();
    assert!(built.expect("cc, which Rust needs too").success());
    library
}

struct Write {
    offset: u64,
    old: Vec<u8>,
}

/// What is not on the platter of one file.
#[derive(Default)]
struct Pending {
    writes: Vec<Write>,
    /// How many of them the syncs under way will cover.
    covered: HashMap<u64, usize>,
}

/// Takes back a part of what the journal says was not synced.
pub(crate) fn lose(journal: &Path, dice: &mut Dice) -> usize {
    // A process that was killed before its first write has none.
    let Ok(bytes) = fs::read(journal) else { return 0 };
    let mut files: HashMap<String, Pending> = HashMap::new();
    let mut rest = bytes.as_slice();
    // The last record may be cut off: then its write never happened.
    while let Some((head, tail)) = rest.split_at_checked(20) {
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let (kind, name, length) = (word(0), word(4) as usize, word(8) as usize);
        let offset = u64::from_le_bytes(head[12..20].try_into().unwrap());
        let Some((body, tail)) = tail.split_at_checked(name + length) else { break };
        let path = String::from_utf8(body[..name].to_vec()).unwrap();
        let Pending { writes, covered } = files.entry(path).or_default();
        match kind {
            1 => writes.push(Write { offset, old: body[name..].to_vec() }),
            2 => drop(covered.insert(offset, writes.len())),
            _ => {
                let count = covered.remove(&offset).unwrap_or(0).min(writes.len());
                writes.drain(..count);
                // Syncs under way at the same time cover that much less of what is left.
                covered.values_mut().for_each(|other| *other = other.saturating_sub(count));
            }
        }
        rest = tail;
    }
    fs::remove_file(journal).unwrap();
    let mut lost = 0;
    for (path, Pending { writes, .. }) in files {
        // A file that is gone has nothing to lose.
        let Ok(file) = File::options().write(true).open(&path) else { continue };
        for write in writes.iter().rev() {
            let first = SECTOR - usize::try_from(write.offset).unwrap() % SECTOR;
            let mut start = 0;
            while start < write.old.len() {
                let end = if start == 0 {
                    first.min(write.old.len())
                } else {
                    (start + SECTOR).min(write.old.len())
                };
                if dice.roll(2) == 0 {
                    file.write_all_at(&write.old[start..end], write.offset + start as u64).unwrap();
                    lost += 1;
                }
                start = end;
            }
        }
    }
    lost
}
