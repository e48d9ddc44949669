//! Cutting off and purging, with the power going at every single step.

use super::*;
use crate::log::disk::fake::{FakeDisk, Faults};
use crate::log::record::Request;
use crate::proof::{Dice, rounds};
use crate::types::{Op, Txn};

const SEGMENT: u64 = 400;

fn record(term: u64, index: u64) -> Record {
    let value = vec![u8::try_from(term).unwrap(); 40 + usize::try_from(index * 13 % 90).unwrap()];
    let op = Op::Put { key: format!("{index}").into(), value: value.into(), lease: 0 };
    Record { term, index, time: 0, request: Request::Txn(Txn { success: vec![op], ..Txn::default() }) }
}

fn fill(log: &mut Log, term: u64, until: u64) {
    while log.next <= until {
        log.append(&record(term, log.next));
        if log.next.is_multiple_of(3) || log.next > until {
            log.sync().unwrap();
            log.roll(false).unwrap();
        }
    }
}

/// A log of records 1 to 30 in many segments, and its disk.
fn filled() -> (FakeDisk, Log) {
    let disk = FakeDisk::default();
    let mut log = Log::create(Arc::new(disk.clone()), SEGMENT, 9, 1).unwrap();
    fill(&mut log, 1, 30);
    assert!(log.segments.len() > 5);
    (disk, log)
}

fn open(disk: &FakeDisk, applied: u64) -> (Log, Vec<Record>) {
    let mut records = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let opened = Log::open(&disk, SEGMENT, Some(9), applied, |record| records.push(record)).unwrap().unwrap();
    (opened.log, records)
}

#[test]
fn a_cut_is_whole_or_has_not_happened_wherever_the_power_goes() {
    let mut dice = Dice(17);
    let (mut whole, mut torn) = (0, 0);
    for since in (1..=30).chain([31]) {
        for steps in 0.. {
            let mut done = false;
            for _ in 0..rounds(4, 60) {
                let (disk, mut log) = filled();
                disk.set(Faults { operations: Some(steps), ..Faults::default() });
                done = log.truncate(since).is_ok();
                let disk = disk.lose_power(|| dice.roll(2) == 0);
                let (mut log, records) = open(&disk, 0);
                let kept = records.len() as u64;
                assert!((0..kept).all(|at| records[usize::try_from(at).unwrap()] == record(1, at + 1)));
                assert!(
                    kept >= since - 1,
                    "{since}, {steps} steps: only what was asked for goes, {kept} are left"
                );
                if done {
                    assert_eq!(kept, since - 1, "{steps} steps: what is cut off does not come back");
                }
                (whole, torn) = (whole + u64::from(done), torn + u64::from(!done));
                // Other records take their place, and are the ones that are found.
                log.truncate(since).unwrap();
                fill(&mut log, 2, since + 20);
                let (log, records) = open(&disk.lose_power(|| dice.roll(2) == 0), 0);
                assert_eq!(records.len() as u64, since + 20);
                let expected = |at: u64| record(if at < since { 1 } else { 2 }, at);
                assert!(records.iter().all(|found| *found == expected(found.index)));
                assert_eq!(log.state().last, LogId { term: 2, index: since + 20 });
            }
            if done {
                break;
            }
        }
    }
    assert!(whole > 30 && torn > 200, "{whole} whole, {torn} torn");
}

#[test]
fn a_purge_never_leaves_a_gap_wherever_the_power_goes() {
    let mut dice = Dice(23);
    for up_to in [1, 7, 15, 29, 30, 31, 44] {
        for steps in 0.. {
            let mut done = false;
            for _ in 0..rounds(6, 100) {
                let (disk, mut log) = filled();
                disk.set(Faults { operations: Some(steps), ..Faults::default() });
                done = log.purge(LogId { term: 1, index: up_to }).is_ok();
                let disk = disk.lose_power(|| dice.roll(2) == 0);
                // The state that it was purged for is there.
                let (mut log, records) = open(&disk, up_to);
                assert_eq!(records, (up_to + 1..=30).map(|index| record(1, index)).collect::<Vec<_>>());
                log.purge(LogId { term: 1, index: up_to }).unwrap();
                fill(&mut log, 3, up_to + 40);
                let disk = disk.lose_power(|| dice.roll(2) == 0);
                let (log, records) = open(&disk, up_to);
                assert_eq!(records.len() as u64, 40);
                assert_eq!(log.state().last, LogId { term: 3, index: up_to + 40 });
            }
            if done {
                break;
            }
        }
    }
}

#[test]
fn records_of_a_purged_log_are_missed_if_their_state_is_gone() {
    for up_to in [15, 44] {
        let (disk, mut log) = filled();
        log.purge(LogId { term: 1, index: up_to }).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let missed = Log::open(&disk, SEGMENT, Some(9), 3, |_| ()).err().unwrap().to_string();
        assert!(missed.contains("are missing"), "{missed}");
    }
}

#[test]
fn a_vote_is_kept_whatever_happens_to_one_copy_of_it() {
    let mut dice = Dice(3);
    let vote = |term| Vote { term, member: 4, committed: term % 2 == 0 };
    for steps in 0..12 {
        let (disk, mut log) = filled();
        assert_eq!(log.vote(), None);
        log.save_vote(vote(1)).unwrap();
        log.save_vote(vote(2)).unwrap();
        disk.set(Faults { operations: Some(steps), ..Faults::default() });
        let done = log.save_vote(vote(3)).is_ok();
        let disk = disk.lose_power(|| dice.roll(2) == 0);
        let found = open(&disk, 0).0.vote().unwrap();
        assert!(found == vote(3) || !done && found == vote(2), "{steps}: {found:?}");
        for copy in [0, 4096] {
            let disk = disk.copy();
            disk.tamper(hard_state::NAME, |bytes| bytes[copy + 20] ^= 4);
            if done {
                assert_eq!(open(&disk, 0).0.vote(), Some(vote(3)), "copy at {copy}");
            }
            disk.tamper(hard_state::NAME, |bytes| bytes[4096 - copy + 30] ^= 1);
            let disk: Arc<dyn Disk> = Arc::new(disk);
            let refused = Log::open(&disk, SEGMENT, Some(9), 0, |_| ()).err().unwrap().to_string();
            assert!(refused.contains(hard_state::NAME), "{refused}");
        }
    }
}

#[test]
fn any_part_of_the_log_can_be_read_back() {
    let (_, mut log) = filled();
    // Some that are not on disk yet.
    log.append(&record(2, 31));
    log.append(&record(2, 32));
    let read = |log: &Log, from, to| log.read(from..to).unwrap().iter().map(|r| r.index).collect::<Vec<_>>();
    for (from, to) in [(1, 33), (5, 6), (12, 25), (29, 32), (31, 99), (0, 2), (8, 8), (40, 50)] {
        assert_eq!(read(&log, from, to), (from.max(1)..to.min(33)).collect::<Vec<_>>(), "{from}..{to}");
    }
    assert_eq!(log.state().last, LogId { term: 2, index: 32 });
    log.truncate(32).unwrap();
    assert_eq!(read(&log, 30, 40), [30, 31]);
    log.truncate(31).unwrap();
    assert_eq!(log.state().last, LogId { term: 1, index: 30 });
    log.purge(LogId { term: 1, index: 17 }).unwrap();
    assert_eq!(read(&log, 0, 20), [18, 19]);
    assert!(log.truncate(17).is_err(), "what is purged is not cut off");
}

#[test]
fn a_torn_seal_hides_no_record() {
    // One whose seal lies in two sectors.
    let (disk, log, segment) = (300..)
        .find_map(|size| {
            let disk = FakeDisk::default();
            let mut log = Log::create(Arc::new(disk.clone()), size, 9, 1).unwrap();
            fill(&mut log, 1, 30);
            let sealed = log.segments.iter().take(log.segments.len() - 1);
            let mut lengths = sealed.map(|segment| (segment.first, usize::try_from(segment.length).unwrap()));
            let torn = lengths.find(|(_, length)| length / 512 < (length + frame::HEADER - 1) / 512)?;
            Some((disk, log, torn))
        })
        .unwrap();
    drop(log);
    let (first, length) = segment;
    let sector = (length / 512 + 1) * 512;
    disk.tamper(&name(first), |bytes| bytes[sector..].fill(0));
    let (log, records) = open(&disk, 0);
    assert_eq!(records.len(), 30);
    assert_eq!(log.read(1..31).unwrap(), records);
    // Half of a record is another matter.
    disk.tamper(&name(first), |bytes| bytes[length - 4..].fill(0));
    assert!(matches!(log.read(1..31), Err(LogError::Damaged { .. })));
}
