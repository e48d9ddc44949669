//! kill -9 under load: this test binary runs itself as a child that writes and says what was acknowledged, and kills
//! it in the middle. Everything said must be there, every transaction whole, no revision given out twice.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{Dice, config, get, put, rounds, run, runtime};
use crate::EmbeddedStore;
use crate::types::{Durability, Store, Txn};

const DIRECTORY: &str = "MINIK8S_STORE_CRASH_DIR";
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
                let ops =
                    vec![put(&format!("a-{writer}"), value.clone()), put(&format!("b-{writer}"), value)];
                let revision = run(&store, ops).await.unwrap().revision;
                say(&format!("synced {writer} {number} {revision}"));
                let lease =
                    Txn { success: vec![put("lease", "x")], durability: Durability::Lazy, ..Txn::default() };
                let revision = store.txn(lease).await.unwrap().revision;
                say(&format!("lazy {writer} {number} {revision}"));
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        runtime.block_on(writer).unwrap();
    }
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
    let mut dice = Dice(11);
    let mut acknowledged = [0u64; WRITERS];
    let mut highest = 0;
    for round in 0..rounds(8, 300) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "proof::crash::child", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let enough = 10 + dice.roll(400);
        let mut count = 0;
        for line in lines {
            let line = line.unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            let ["synced" | "lazy", writer, number, revision] = words[..] else { continue };
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
        assert!(count >= enough, "round {round}: the child ended by itself after {count} lines");
        let (store, recovery) = EmbeddedStore::open(config(dir.path())).unwrap();
        assert!(
            recovery.revision >= highest,
            "round {round}: {highest} was seen, {} is next",
            recovery.revision
        );
        for (writer, number) in acknowledged.iter_mut().enumerate() {
            let [a, b] = ["a", "b"].map(|side| read(&store, &format!("{side}-{writer}")));
            assert_eq!(a, b, "round {round}: a transaction is whole");
            assert!(a >= *number, "round {round}: {number} was acknowledged, {a} is there");
            *number = a;
        }
        highest = highest.max(store.revision());
    }
}
