//! JSON and YAML bodies through the write path: decode, check, default, patch. Nothing panics, and a checked and
//! defaulted object stays as it is when it passes again.
//!
//! Input: one byte that picks the kind, the body, then after a zero byte a strategic merge patch.

#![no_main]

use api::{FieldValidation, kinds, patch, protobuf, schema};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((pick, rest)) = input.split_first() else { return };
    let row = kinds::ALL[usize::from(*pick) % kinds::ALL.len()];
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (body, change) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let _ = schema::decode_yaml(body);
    let Ok((mut tree, _)) = schema::decode_json(body) else { return };
    if schema::check(row, &mut tree, FieldValidation::Warn).is_err() {
        return;
    }
    schema::apply_defaults(row, &mut tree);
    let mut again = tree.clone();
    schema::check(row, &mut again, FieldValidation::Strict).expect("a checked object is checked again");
    schema::apply_defaults(row, &mut again);
    assert_eq!(tree, again);
    let ty = schema::for_kind(row).expect("every row has a schema");
    protobuf::encode_message(ty, &tree).expect("a checked object has a protobuf form");
    if let Ok((change, _)) = schema::decode_json(change) {
        let _ = patch::strategic_merge(ty, &mut tree, &change);
    }
});
