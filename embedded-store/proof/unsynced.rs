//! Power cuts for a whole process, sled included: a preloaded library keeps what every write replaced, and
//! after the process is gone any part of what it had not synced is taken back, sector by sector: either as of
//! its end, or as of any of its writes, one after the other from the last to the first.

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

/// One thing that the process did to a file.
struct Record {
    path: String,
    step: Step,
}

enum Step {
    Write {
        offset: u64,
        old: Vec<u8>,
    },
    /// Syncs have numbers; several can be under way.
    SyncBegins(u64),
    SyncEnds(u64),
}

fn read(journal: &Path) -> Vec<Record> {
    // A process that was killed before its first write has none.
    let bytes = fs::read(journal).unwrap_or_default();
    let mut records = Vec::new();
    let mut rest = bytes.as_slice();
    // The last record may be cut off: then its write never happened.
    while let Some((head, tail)) = rest.split_at_checked(20) {
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let (kind, name, length) = (word(0), word(4) as usize, word(8) as usize);
        let offset = u64::from_le_bytes(head[12..20].try_into().unwrap());
        let Some((body, tail)) = tail.split_at_checked(name + length) else { break };
        let path = String::from_utf8(body[..name].to_vec()).unwrap();
        let step = match kind {
            1 => Some(Step::Write { offset, old: body[name..].to_vec() }),
            2 => Some(Step::SyncBegins(offset)),
            3 => Some(Step::SyncEnds(offset)),
            _ => None,
        };
        match step {
            Some(step) => records.push(Record { path, step }),
            None => renamed(
                &mut records,
                Path::new(&path),
                Path::new(std::str::from_utf8(&body[name..]).unwrap()),
            ),
        }
        rest = tail;
    }
    records
}

/// What was done to files before they were moved, or before they made way, is not found under their names any
/// more.
fn renamed(records: &mut Vec<Record>, from: &Path, to: &Path) {
    records.retain(|record| !Path::new(&record.path).starts_with(to));
    for Record { path, .. } in records {
        if let Ok(rest) = Path::new(path).strip_prefix(from) {
            // Joining nothing would add a slash.
            let moved = if rest.as_os_str().is_empty() { to.to_path_buf() } else { to.join(rest) };
            *path = moved.into_os_string().into_string().unwrap();
        }
    }
}

/// Which of the writes among these are not on the platter after the last of them.
fn pending(records: &[Record]) -> Vec<usize> {
    #[derive(Default)]
    struct Pending {
        writes: Vec<usize>,
        /// How many of them the syncs under way will cover.
        covered: HashMap<u64, usize>,
    }
    let mut files: HashMap<&str, Pending> = HashMap::new();
    for (at, Record { path, step }) in records.iter().enumerate() {
        let Pending { writes, covered } = files.entry(path).or_default();
        match step {
            Step::Write { .. } => writes.push(at),
            Step::SyncBegins(number) => drop(covered.insert(*number, writes.len())),
            Step::SyncEnds(number) => {
                let count = covered.remove(number).unwrap_or(0).min(writes.len());
                writes.drain(..count);
                // Syncs under way at the same time cover that much less of what is left.
                covered.values_mut().for_each(|other| *other = other.saturating_sub(count));
            }
        }
    }
    let mut all: Vec<usize> = files.into_values().flat_map(|file| file.writes).collect();
    all.sort_unstable();
    all
}

/// Puts back what a write replaced, in those of its sectors that `lost` picks. Returns how many these were.
fn take_back(path: &Path, offset: u64, old: &[u8], mut lost: impl FnMut() -> bool) -> usize {
    // A file that is gone has nothing to lose.
    let Ok(file) = File::options().write(true).open(path) else { return 0 };
    let first = SECTOR - usize::try_from(offset).unwrap() % SECTOR;
    let (mut start, mut end, mut count) = (0, first.min(old.len()), 0);
    while start < old.len() {
        if lost() {
            file.write_all_at(&old[start..end], offset + start as u64).unwrap();
            count += 1;
        }
        (start, end) = (end, (end + SECTOR).min(old.len()));
    }
    count
}

/// Takes back a part of what the journal says was not synced.
pub(crate) fn lose(journal: &Path, dice: &mut Dice) -> usize {
    let records = read(journal);
    let _ = fs::remove_file(journal);
    let lost = pending(&records).into_iter().rev().map(|at| match &records[at] {
        Record { path, step: Step::Write { offset, old } } => {
            take_back(path.as_ref(), *offset, old, || dice.roll(2) == 0)
        }
        _ => 0,
    });
    lost.sum()
}

/// What a power cut leaves of the writes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Nothing.
    Nothing,
    /// The last one: the disk wrote in another order.
    Last,
    /// Some of them, whole.
    Writes,
    /// Some of their sectors.
    Sectors,
}

/// All moments at which the power could have gone while a process lived, from the last to the first.
pub(crate) struct Rewind {
    under: PathBuf,
    records: Vec<Record>,
}

impl Rewind {
    /// Of the files in `under`, which are as the process left them: nobody has touched them since.
    pub(crate) fn new(under: &Path, journal: &Path) -> Rewind {
        Rewind { under: under.to_path_buf(), records: read(journal) }
    }

    /// Undoes the last write and whatever came after it; `false` if there is none left.
    pub(crate) fn back(&mut self) -> bool {
        while let Some(Record { path, step }) = self.records.pop() {
            if let Step::Write { offset, old } = step {
                take_back(path.as_ref(), offset, &old, || true);
                return true;
            }
        }
        false
    }

    /// Makes a copy of the files in `to`, as they are after a power cut now. Returns how many writes that
    /// could hit.
    pub(crate) fn cut(&self, to: &Path, cut: Cut, dice: &mut Dice) -> usize {
        copy(&self.under, to);
        let pending = pending(&self.records);
        for (nth, at) in pending.iter().rev().enumerate() {
            let Record { path, step: Step::Write { offset, old } } = &self.records[*at] else { continue };
            let path = to.join(Path::new(path).strip_prefix(&self.under).unwrap());
            let whole = match cut {
                Cut::Nothing => true,
                Cut::Last => nth > 0,
                Cut::Writes | Cut::Sectors => dice.roll(2) == 0,
            };
            take_back(&path, *offset, old, || match cut {
                Cut::Sectors => dice.roll(2) == 0,
                _ => whole,
            });
        }
        pending.len()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
