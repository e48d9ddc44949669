//! kill -9 under load: this test binary runs itself as a child that writes and says what was acknowledged,
//! and kills it in the middle. Everything said must be there, every transaction whole, no revision given out
//! twice.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{Dice, config, get, put, rounds, run, runtime, unsynced};
use crate::EmbeddedStore;
use crate::types::{Durability, Store, Txn};

const DIRECTORY: &str = "MINIK8S_STORE_CRASH_DIR";
/// The child writes its state anew all the time.
const ANEW: &str = "MINIK8S_STORE_CRASH_ANEW";
const WRITERS: usize = 4;

/// Not a test of its own: what the child does. Without the variable there is nothing to do.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let (store, _) = EmbeddedStore::open(config(dir.as_ref())).unwrap();
    let runtime = runtime();
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        runtime.spawn(async move {
            let mut number = read(&store, &format!("a-{writer}"));
            loop {
                number += 1;
                let value = format!("{number:0700}");
                let mut ops =
                    vec![put(&format!("a-{writer}"), value.clone()), put(&format!("b-{writer}"), value)];
                // Keys of all sizes that come and go, so that sled has pages to split, move and free.
                ops.push(put(&churn(writer, number), vec![7; churn_size(number)]));
                let gone = churn(writer, number + 20).into();
                ops.push(crate::types::Op::Delete { key: gone, range_end: None });
                let revision = run(&store, ops).await.unwrap().revision;
                say(&format!("synced {writer} {number} {revision}"));
                let lease =
                    Txn { success: vec![put("lease", "x")], durability: Durability::Lazy, ..Txn::default() };
                let revision = store.txn(lease).await.unwrap().revision;
                say(&format!("lazy {writer} {number} {revision}"));
            }
        })
    });
    // They end only with the process.
    let writers: Vec<_> = writers.collect();
    if std::env::var_os(ANEW).is_some() {
        runtime.block_on(async {
            // In between it goes on as usual in what it has just moved.
            for number in 0u64.. {
                let anew = number % 8 == 0;
                if anew { store.defragment().await } else { store.checkpoint().await }.unwrap();
            }
        });
    }
    runtime.block_on(futures::future::join_all(writers));
}

fn churn(writer: usize, number: u64) -> String {
    format!("churn-{writer}-{}", number % 50)
}

fn churn_size(number: u64) -> usize {
    usize::try_from(number * 977 % 9000).unwrap()
}

/// One write for the whole line: the pipe keeps lines whole.
fn say(line: &str) {
    // The parent may be gone already; then so are we.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn read(store: &EmbeddedStore, key: &str) -> u64 {
    get(store, key).map_or(0, |value| String::from_utf8_lossy(&value).parse().unwrap())
}

#[test]
fn kill_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    crashes(dir.path(), rounds(8, 300), |_| (), |_, _| 1);
}

#[test]
fn kill_while_space_is_given_back_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hit = crashes(
        dir.path(),
        rounds(12, 300),
        |child| {
            child.env(ANEW, "1");
        },
        |dir, _| usize::from(["state.new", "state.old"].iter().any(|name| dir.join(name).exists())),
    );
    assert!(hit > 0, "some must have met it half done");
}

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    power_cuts(|_| ());
}

#[test]
fn power_cuts_while_space_is_given_back_lose_nothing() {
    power_cuts(|child| {
        child.env(ANEW, "1");
    });
}

fn power_cuts(prepare: impl Fn(&mut Command)) {
    let dir = tempfile::tempdir().unwrap();
    let tools = tempfile::tempdir().unwrap();
    let library = unsynced::build(tools.path());
    let journal = tools.path().join("journal");
    let preload = |command: &mut Command| {
        command.env("LD_PRELOAD", &library);
        command.env("UNSYNCED_UNDER", dir.path());
        command.env("UNSYNCED_JOURNAL", &journal);
        prepare(command);
    };
    let lost = crashes(dir.path(), rounds(12, 300), preload, |_, dice| unsynced::lose(&journal, dice));
    assert!(lost > 0, "some of the cuts must have hit something");
}

/// Rounds are repeated up to so many times if none of them has met what it is about.
const REPEAT: usize = 10;

/// Runs the child, kills it at some moment, lets `damage` do its part, and checks what is there; again and
/// again. What `damage` counts depends on the moment: goes on for a while as long as that is nothing. Returns
/// the sum.
fn crashes(
    dir: &Path,
    rounds: usize,
    prepare: impl Fn(&mut Command),
    mut damage: impl FnMut(&Path, &mut Dice) -> usize,
) -> usize {
    let mut dice = Dice(11);
    let mut acknowledged = [0u64; WRITERS];
    let mut highest = 0;
    let mut hit = 0;
    for round in 0..rounds * REPEAT {
        if round >= rounds && hit > 0 {
            break;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "proof::crash::child", "--nocapture", "--test-threads=1"]);
        command.env(DIRECTORY, dir).stdout(Stdio::null()).stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let enough = 10 + dice.roll(400);
        let mut count = 0;
        let mut said = Vec::new();
        for line in lines {
            let line = line.unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            let ["synced" | "lazy", writer, number, revision] = words[..] else {
                said.push(line);
                continue;
            };
            let (writer, number): (usize, u64) = (writer.parse().unwrap(), number.parse().unwrap());
            let revision: u64 = revision.parse().unwrap();
            if words[0] == "synced" {
                acknowledged[writer] = acknowledged[writer].max(number);
            }
            highest = highest.max(revision);
            count += 1;
            // What it still managed to say is read to the end.
            if count == enough {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(count >= enough, "round {round}: the child ended by itself after {count} lines: {said:#?}");
        hit += damage(dir, &mut dice);
        let (store, recovery) = EmbeddedStore::open(config(dir)).unwrap();
        assert!(
            recovery.revision >= highest,
            "round {round}: {highest} was seen, {} is next",
            recovery.revision
        );
        for (writer, number) in acknowledged.iter_mut().enumerate() {
            let [a, b] = ["a", "b"].map(|side| read(&store, &format!("{side}-{writer}")));
            assert_eq!(a, b, "round {round}: a transaction is whole");
            assert!(a >= *number, "round {round}: {number} was acknowledged, {a} is there");
            if a > 0 {
                assert_eq!(get(&store, &churn(writer, a)).unwrap().len(), churn_size(a));
                assert_eq!(get(&store, &churn(writer, a + 20)), None);
            }
            *number = a;
        }
        highest = highest.max(store.revision());
    }
    hit
}
