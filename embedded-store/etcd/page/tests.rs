//! The pieces together are what prost would have encoded.

use proptest::prelude::*;

use super::*;

fn key_values() -> impl Strategy<Value = Vec<KeyValue>> {
    let value = prop_oneof![
        4 => 0..2_000usize,
        1 => PIECE - 40..PIECE + 40,
        1 => Just(200_000),
    ];
    let one =
        (value, 0..300usize, any::<i64>(), any::<i64>()).prop_map(|(value, key, revision, lease)| KeyValue {
            key: vec![b'k'; key].into(),
            value: vec![b'v'; value].into(),
            mod_revision: revision,
            lease,
            ..KeyValue::default()
        });
    prop::collection::vec(one, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn pieces_make_the_whole(
        kvs in key_values(),
        header in prop::option::of(any::<i64>()),
        more: bool,
        count in 0i64..1_000_000,
    ) {
        let header = header.map(|revision| pb::ResponseHeader { revision, ..Default::default() });
        let answer = pb::RangeResponse { header, kvs, more, count };
        let pieces: Vec<_> = Page::new(answer.clone()).collect();
        let whole = pieces.concat();
        prop_assert_eq!(&whole[..1], &[0]);
        prop_assert_eq!(&whole[1..PREFIX], &u32::try_from(whole.len() - PREFIX).unwrap().to_be_bytes());
        prop_assert_eq!(&whole[PREFIX..], &answer.encode_to_vec()[..]);
        let largest = answer.kvs.iter().map(encoded_len).max().unwrap_or(0);
        // The ends come on top.
        prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE.max(largest) + 100));
    }
}
