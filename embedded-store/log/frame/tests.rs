//! What the end of a segment means: clean, torn or damaged.

use super::*;
use crate::log::record::Request;

/// Three batches of two records, each batch on disk before the next is written; zeros follow.
fn segment() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut ends = vec![0];
    for index in 1..=6u64 {
        let synced = (index - 1) / 2 * 2;
        let request = Request::Txn(crate::types::Txn {
            success: vec![crate::types::Op::Put {
                key: format!("key-{index}").into(),
                value: vec![7; 900].into(),
                lease: 0,
            }],
            ..Default::default()
        });
        encode(&Record { term: 1, index, time: 5, request }, synced, &mut bytes);
        ends.push(bytes.len());
    }
    bytes.resize(bytes.len() + 4096, 0);
    (bytes, ends)
}

fn read(bytes: &[u8]) -> (u64, End) {
    let mut count = 0;
    let (_, next, end) = scan(bytes, 0, 1, |record| {
        count += 1;
        assert_eq!(record.index, count);
    });
    assert_eq!(next, count + 1);
    (count, end)
}

#[test]
fn unwritten_space_is_a_clean_end() {
    let (bytes, ends) = segment();
    assert_eq!(read(&bytes), (6, End::Clean));
    assert_eq!(read(&bytes[..ends[6]]), (6, End::Clean));
    assert_eq!(read(&[]), (0, End::Clean));
}

#[test]
fn a_file_that_ends_in_a_record_was_torn() {
    let (bytes, ends) = segment();
    for length in ends[5] + 1..ends[6] {
        let (count, end) = read(&bytes[..length]);
        assert_eq!(count, 5);
        assert!(matches!(end, End::Torn(_)), "{length}: {end:?}");
    }
}

#[test]
fn missing_sectors_of_the_last_batch_were_torn() {
    let (bytes, ends) = segment();
    // The whole sectors inside the last batch: 5 and 6 were written together, so 6 says nothing about 5.
    let first = ends[4].div_ceil(SECTOR);
    for sector in first..ends[6] / SECTOR {
        let mut torn = bytes.clone();
        torn[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
        let (count, end) = read(&torn);
        assert!((4..6).contains(&count));
        assert!(matches!(end, End::Torn(_)), "{sector}: {end:?}");
    }
}

#[test]
fn missing_sectors_before_the_last_batch_are_damage() {
    let (bytes, ends) = segment();
    for sector in 0..ends[4] / SECTOR {
        let mut damaged = bytes.clone();
        damaged[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
        let (_, end) = read(&damaged);
        assert!(matches!(end, End::Damaged(_)), "{sector}: {end:?}");
    }
}

#[test]
fn every_flipped_bit_is_damage() {
    let (bytes, ends) = segment();
    for position in (0..ends[6]).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1 << (position % 8);
        let (count, end) = read(&damaged);
        assert!(count < 6);
        // A flipped length can point beyond the end of the file, which looks like a torn write: only for the
        // last batch, of which no later record speaks.
        let torn = matches!(end, End::Torn(_)) && position >= ends[4];
        assert!(matches!(end, End::Damaged(_)) || torn, "{position}: {end:?}");
    }
}

#[test]
fn garbage_never_panics() {
    let mut seed = 1u64;
    for length in 0..600 {
        let garbage: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed.to_le_bytes()[7]
            })
            .collect();
        let (count, end) = read(&garbage);
        assert_eq!(count, 0);
        assert!(length == 0 || end != End::Clean);
    }
}
