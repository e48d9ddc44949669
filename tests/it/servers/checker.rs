//! Decides whether what clients saw of a few keys can have come from one copy of them that changes in steps.
//!
//! Every version of an object has a revision, in one order for all, so that no search is needed. It is
//! enough that watches agree on the versions of each key and leave none out, that every write that was
//! acknowledged is one of them and came upon the version that it was made from, and that no operation sees
//! less than one that ended before it began.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use serde_json::Value;

/// What cannot have been, in words.
#[derive(Debug)]
pub(super) struct Violation(pub(super) String);

fn violated<T>(why: String) -> Result<T, Violation> {
    Err(Violation(why))
}

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) revision: u64,
    pub(super) value: String,
}

impl Seen {
    pub(super) fn of(object: &Value) -> Option<Seen> {
        let revision = object["metadata"]["resourceVersion"].as_str()?.parse().ok()?;
        Some(Seen { revision, value: object["data"]["value"].as_str()?.to_string() })
    }
}

/// A read, or a write that was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) key: usize,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) seen: Seen,
    /// Of a write: the revision that it was made from.
    pub(super) base: Option<u64>,
}

#[derive(Default)]
pub(super) struct History {
    /// Each key as it was made.
    pub(super) first: Vec<Seen>,
    pub(super) operations: Vec<Operation>,
}

impl History {
    /// Reads and writes.
    pub(super) fn counts(&self) -> (usize, usize) {
        let writes = self.operations.iter().filter(|operation| operation.base.is_some()).count();
        (self.operations.len() - writes, writes)
    }
}

/// What a watch has seen, by key and version, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    pub(super) seen: Vec<(usize, Seen)>,
    /// Where the server no longer had what came after a revision, and the client began anew at another.
    pub(super) breaks: Vec<(u64, u64)>,
}

impl Watched {
    fn misses(&self, revision: u64) -> bool {
        self.breaks.iter().any(|(after, up_to)| (after + 1..=*up_to).contains(&revision))
    }
}

/// The versions that watches have seen, by revision.
type Versions = BTreeMap<u64, (usize, Seen)>;

fn merged(watched: &[Watched]) -> Result<Versions, Violation> {
    let mut versions = Versions::new();
    for (number, watch) in watched.iter().enumerate() {
        if let Some(pair) = watch.seen.windows(2).find(|pair| pair[0].1.revision >= pair[1].1.revision) {
            return violated(format!("watch {number} goes back or repeats: {pair:?}"));
        }
        for one in &watch.seen {
            let known = versions.entry(one.1.revision).or_insert_with(|| one.clone());
            if known != one {
                return violated(format!("watch {number} saw {one:?} and another {known:?}"));
            }
        }
    }
    let missing = |watch: &Watched| {
        let has =
            |revision: u64| watch.seen.binary_search_by_key(&revision, |(_, seen)| seen.revision).is_ok();
        versions.keys().copied().find(|revision| !has(*revision) && !watch.misses(*revision))
    };
    let gap = watched.iter().enumerate().find_map(|(number, watch)| Some((number, missing(watch)?)));
    gap.map_or(Ok(()), |(number, revision)| violated(format!("watch {number} has left out {revision}")))?;
    Ok(versions)
}

pub(super) fn check(history: &History, watched: &[Watched]) -> Result<(), Violation> {
    let versions = merged(watched)?;
    let mut by_key: BTreeMap<usize, Vec<&Seen>> =
        history.first.iter().enumerate().map(|(key, first)| (key, vec![first])).collect();
    for (key, seen) in versions.values() {
        by_key.entry(*key).or_default().push(seen);
    }
    for (key, versions) in &by_key {
        let mut values = HashSet::new();
        if let Some(twice) = versions.iter().find(|seen| !values.insert(&seen.value)) {
            return violated(format!("a write of key {key} took effect twice: {twice:?}"));
        }
    }
    let nobody_saw = |revision: u64| watched.iter().all(|watch| watch.misses(revision));
    let mut known = history.operations.iter().filter(|operation| {
        !nobody_saw(operation.seen.revision) && operation.base.is_none_or(|base| !nobody_saw(base))
    });
    known.try_for_each(|operation| is_version(operation, &by_key))?;
    in_order(&history.operations)
}

fn is_version(operation: &Operation, versions: &BTreeMap<usize, Vec<&Seen>>) -> Result<(), Violation> {
    let versions = versions.get(&operation.key).map(Vec::as_slice).unwrap_or_default();
    let Some(at) = versions.iter().position(|seen| **seen == operation.seen) else {
        return violated(format!("it is no version of its key: {operation:?}"));
    };
    let before = at.checked_sub(1).map(|before| versions[before].revision);
    match operation.base {
        Some(base) if before != Some(base) => violated(format!("it came upon {before:?}: {operation:?}")),
        _ => Ok(()),
    }
}

/// No operation sees less of its key than one that ended before it began.
fn in_order(operations: &[Operation]) -> Result<(), Violation> {
    let mut by_start: Vec<&Operation> = operations.iter().collect();
    let mut by_end = by_start.clone();
    by_start.sort_by_key(|operation| operation.began);
    by_end.sort_by_key(|operation| operation.ended);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: BTreeMap<usize, &Operation> = BTreeMap::new();
    for operation in by_start {
        while let Some(done) = ended.next_if(|done| done.ended < operation.began) {
            let known = newest.entry(done.key).or_insert(done);
            if done.seen.revision > known.seen.revision {
                *known = done;
            }
        }
        if let Some(known) = newest.get(&operation.key)
            && known.seen.revision > operation.seen.revision
        {
            return violated(format!("it is stale: {operation:?} after {known:?}"));
        }
    }
    Ok(())
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let start = Instant::now();
    let at = |millis: u64| start + std::time::Duration::from_millis(millis);
    let seen = |revision, value: &str| Seen { revision, value: value.to_string() };
    let watch = |seen: &[(usize, Seen)]| Watched { seen: seen.to_vec(), ..Watched::default() };
    let versions = [(0, seen(5, "a")), (0, seen(7, "b"))];
    let operation =
        |began, ended, seen: Seen, base| Operation { key: 0, began: at(began), ended: at(ended), seen, base };
    let checked = |operations: Vec<Operation>, watched: &[Watched]| {
        check(&History { first: vec![seen(1, "first")], operations }, watched)
    };
    let write = operation(0, 10, seen(5, "a"), Some(1));
    let watched = [watch(&versions), watch(&versions)];
    checked(vec![write.clone(), operation(11, 12, seen(7, "b"), None)], &watched).unwrap();
    // Beside the write, both are possible.
    checked(vec![write.clone(), operation(9, 12, seen(1, "first"), None)], &watched).unwrap();
    let stale = checked(vec![write, operation(11, 12, seen(1, "first"), None)], &watched);
    assert!(stale.unwrap_err().0.contains("stale"));
    let lost = checked(vec![operation(0, 10, seen(6, "lost"), Some(5))], &watched);
    assert!(lost.unwrap_err().0.contains("no version"));
    let skipped = checked(vec![operation(0, 10, seen(7, "b"), Some(1))], &watched);
    assert!(skipped.unwrap_err().0.contains("it came upon"));
    let mut cut = watch(&versions[1..]);
    let gap = checked(Vec::new(), &[watch(&versions), cut.clone()]);
    assert!(gap.unwrap_err().0.contains("left out 5"));
    cut.breaks.push((1, 6));
    checked(Vec::new(), &[watch(&versions), cut]).unwrap();
    let repeated = [versions[0].clone(), versions[0].clone()];
    assert!(checked(Vec::new(), &[watch(&repeated)]).unwrap_err().0.contains("repeats"));
    let other = [(0, seen(5, "c"))];
    assert!(checked(Vec::new(), &[watch(&versions), watch(&other)]).unwrap_err().0.contains("and another"));
    let twice = [(0, seen(5, "a")), (0, seen(7, "a"))];
    assert!(checked(Vec::new(), &[watch(&twice)]).unwrap_err().0.contains("twice"));
}
