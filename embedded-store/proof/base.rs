//! A power cut at every write of a series of checkpoints: what a description names is there, whenever the
//! power goes.
//!
//! Cuts at random moments hardly ever meet the few writes between the pieces of a new base and the
//! description that names it, so here none is left out: a child writes checkpoints once, with the journal of
//! [`unsynced`] preloaded, and each of its writes is then taken for its last.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::unsynced::{self, Cut, Rewind};
use super::{Dice, put, rounds};
use crate::checkpoint::{Checkpoints, Description, Job};
use crate::log::record::{Record, Request};
use crate::state::State;
use crate::state::history::HistoryLimits;
use crate::types::Txn;

const DIRECTORY: &str = "MINIK8S_STORE_BASE_DIR";
const STORE: u64 = 5;
/// Number of the last checkpoint that was acknowledged, as eight bytes.
const ACKNOWLEDGED: &str = "acknowledged";
const KEYS: u64 = 40;

/// What is checkpointed: small keys and large ones, of which each checkpoint changes a part, in all more than
/// sled writes at a time. The same in every process.
struct Contents {
    state: State,
    dice: Dice,
}

impl Contents {
    fn new() -> Contents {
        let mut state = State::new(HistoryLimits::default());
        state.dirty = Some(Default::default());
        Contents { state, dice: Dice(3) }
    }

    fn change(&mut self) {
        for _ in 0..KEYS {
            let key = format!("key-{}", self.dice.roll(KEYS));
            let size = if self.dice.roll(10) == 0 { 160_000 } else { self.dice.roll(6000) };
            let fill = u8::try_from(self.dice.roll(256)).unwrap();
            let value = vec![fill; usize::try_from(size).unwrap()];
            let request = Request::Txn(Txn { success: vec![put(&key, value)], ..Txn::default() });
            let record = Record { term: 1, index: self.state.index + 1, time: 0, request };
            self.state.apply(&record).outcome.unwrap();
        }
    }
}

/// Short, with every kind of checkpoint in it several times.
fn checkpoints() -> usize {
    rounds(10, 120)
}

/// Not a test of its own: what the child does. Without the variable there is nothing to do.
#[test]
#[expect(clippy::disallowed_methods, reason = "nothing that closing does may happen")]
fn child() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let dir = Path::new(&dir);
    // The journal reads what a write replaces.
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(true);
    let acknowledged = options.open(dir.join(ACKNOWLEDGED)).unwrap();
    let mut checkpoints = Checkpoints::open(&dir.join("state")).unwrap();
    assert!(checkpoints.load(HistoryLimits::default()).unwrap().is_none());
    let mut contents = Contents::new();
    let mut bases = 0;
    for number in 1..=self::checkpoints() as u64 {
        contents.change();
        let all = checkpoints.wants_all();
        bases += u64::from(all);
        checkpoints.write(Job::take(&mut contents.state, STORE, all)).unwrap();
        acknowledged.write_all_at(&number.to_le_bytes(), 0).unwrap();
        acknowledged.sync_data().unwrap();
    }
    assert!(bases > 2, "{bases} bases");
    // As it is, without what sled does when it is closed.
    std::process::exit(0);
}

/// Cuts that had several writes to choose from; fewer prove nothing about the order of writes.
const ENOUGH: usize = 10;
/// Milliseconds that a sync waits for another write. sled writes from several threads, but it depends on the
/// machine how often two of them write at the same time; where that was too seldom, the disk is made slower.
const HOLDS: [&str; 5] = ["5", "20", "80", "320", "1280"];

#[test]
fn a_description_names_what_is_there_whenever_the_power_goes() {
    let mut seen = Vec::new();
    for hold in HOLDS {
        let hit = cut_at_every_write(hold);
        if hit > ENOUGH {
            return;
        }
        seen.push(hit);
    }
    panic!("writes out of order must have been possible: {seen:?}");
}

/// Returns how many of the cuts had several writes to choose from.
fn cut_at_every_write(hold: &str) -> usize {
    let (dir, tools, cuts) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = tools.path().join("journal");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "proof::base::child", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, dir.path()).stdout(Stdio::null());
    command.env("LD_PRELOAD", unsynced::build(tools.path()));
    command.env("UNSYNCED_UNDER", dir.path()).env("UNSYNCED_JOURNAL", &journal);
    command.env("UNSYNCED_HOLD", hold);
    assert!(command.status().unwrap().success());

    // What each number stands for; 0 is nothing yet.
    let mut contents = Contents::new();
    let described = (0..checkpoints()).map(|_| {
        contents.change();
        Description::of(&contents.state, STORE)
    });
    let described: Vec<Option<Description>> = std::iter::once(None).chain(described.map(Some)).collect();

    let mut rewind = Rewind::new(dir.path(), &journal);
    let mut dice = Dice(8);
    let mut hit = 0;
    let mut kinds = [Cut::Nothing, Cut::Last, Cut::Writes, Cut::Sectors].into_iter().cycle();
    loop {
        let number = number(dir.path());
        for cut in kinds.by_ref().take(rounds(2, 4)) {
            let to = cuts.path().join("cut");
            let unsynced = rewind.cut(&to, cut, &mut dice);
            hit += usize::from(unsynced > 1);
            let found = Checkpoints::open(&to.join("state"))
                .and_then(|mut found| found.load(HistoryLimits::default()))
                .unwrap_or_else(|e| {
                    panic!("{number} was acknowledged; {unsynced} unsynced, left: {cut:?}: {e}")
                });
            let found = found.map(|(_, description)| description);
            let next = (number + 1).min(described.len() - 1);
            assert!(
                found == described[number] || found == described[next],
                "{number} was acknowledged; {unsynced} unsynced, left: {cut:?}: {found:?} is there"
            );
            fs::remove_dir_all(to).unwrap();
        }
        // What is older than the first acknowledgement is sled's own beginning.
        if number == 0 || !rewind.back() {
            break;
        }
    }
    hit
}

fn number(dir: &Path) -> usize {
    let bytes = fs::read(dir.join(ACKNOWLEDGED)).unwrap();
    bytes.try_into().map_or(0, |bytes| usize::try_from(u64::from_le_bytes(bytes)).unwrap())
}
