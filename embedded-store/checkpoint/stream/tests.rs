//! Items read back as they were, however they are cut, and pieces in the wrong place are noticed.

use super::*;

fn pieces(items: &[Item]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut encoder = Encoder::new(|part| vec![u8::try_from(part % 251).unwrap()]);
    let mut pieces = Vec::new();
    for item in items {
        encoder.add(item);
        pieces.extend(encoder.full());
    }
    pieces.extend(encoder.end());
    pieces
}

fn put(number: u64, length: usize) -> Item {
    Item::Put(KeyValue {
        key: format!("key-{number}").into(),
        value: vec![u8::try_from(number % 251).unwrap(); length].into(),
        create_revision: number,
        mod_revision: number + 1,
        version: 2,
        lease: -5,
    })
}

#[test]
fn items_read_back_as_they_were() {
    let mut items = vec![Item::Lease(7, 60), put(1, 0), Item::Gone("gone".into()), put(2, 1_500_000)];
    // Every way for an entry to lie across the end of a piece.
    items.extend((0..2000).map(|n| put(n, 3)));
    items.push(Item::LeaseGone(-1));
    let pieces = pieces(&items);
    let (last, full) = pieces.split_last().unwrap();
    assert!(full.iter().all(|(_, piece)| piece.len() == PIECE) && last.1.len() <= PIECE);
    let mut decoder = Decoder::default();
    let mut back = Vec::new();
    for (key, piece) in &pieces {
        decoder.feed(key, piece).unwrap();
        while let Some(item) = decoder.next().unwrap() {
            back.push(item);
        }
    }
    assert_eq!(back.pop(), Some(Item::End));
    assert!(back == items, "{} of {} items", back.len(), items.len());
}

#[test]
fn damage_and_disorder_are_noticed() {
    let pieces = pieces(&[put(1, 20_000)]);
    let mut decoder = Decoder::default();
    assert!(decoder.feed(&pieces[0].0, &pieces[1].1).is_err(), "of another place");
    for at in [0, CHECKSUM, PIECE - 1] {
        let mut damaged = pieces[0].1.clone();
        damaged[at] ^= 4;
        assert!(decoder.feed(&pieces[0].0, &damaged).is_err());
    }
    assert!(decoder.feed(&pieces[0].0, &[1, 2]).is_err());
    let content = [9];
    let unknown = [checksum(b"k", &content).as_slice(), &content].concat();
    decoder.feed(b"k", &unknown).unwrap();
    assert!(decoder.next().is_err());
}
