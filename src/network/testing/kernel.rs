//! Rules in a real kernel. Needs root, as whoever changes rules does; each test has a network namespace of
//! its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Runs in a network namespace that goes with its thread.
pub(crate) fn apart(test: impl FnOnce() + Send + 'static) {
    let within = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace; the test needs root");
        test();
    };
    std::thread::spawn(within).join().expect("the test within the namespace");
}

pub(crate) fn nft(script: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{script}");
}

/// What each set of a table holds, in order.
pub(crate) fn held(family: &str, table: &str) -> BTreeMap<String, Vec<String>> {
    let output = Command::new("nft").args(["-j", "list", "table", family, table]).output().unwrap();
    let tree: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut all = BTreeMap::new();
    for item in tree["nftables"].as_array().unwrap() {
        for kind in ["set", "map"] {
            let Some(set) = item.get(kind) else { continue };
            let elements = set["elem"].as_array().into_iter().flatten();
            let mut elements: Vec<String> = elements.map(Value::to_string).collect();
            elements.sort();
            all.insert(set["name"].as_str().unwrap().to_string(), elements);
        }
    }
    all
}
