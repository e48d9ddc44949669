//! Ways in for the fuzz targets: the decoders of request bodies. Kept here so that what the targets have found is tried
//! by ordinary tests, too.

use crate::{FieldValidation, kinds, patch, protobuf, schema};

/// Protobuf bodies: no bytes panic, and what decodes once encodes to something that decodes to the same.
///
/// # Panics
///
/// If it does not.
pub fn protobuf(bytes: &[u8]) {
    let Ok(first) = protobuf::decode(bytes) else { return };
    // The first pass may drop what has no meaning (unknown fields, zero values); after that nothing changes.
    let Ok(encoded) = protobuf::encode(&first) else { return };
    let second = protobuf::decode(&encoded).expect("our own encoding decodes");
    let encoded = protobuf::encode(&second).expect("what we decoded encodes");
    let third = protobuf::decode(&encoded).expect("our own encoding decodes");
    assert_eq!(second, third);
}

/// JSON and YAML bodies through the write path: decode, check, default, patch. Nothing panics, and a checked and
/// defaulted object stays as it is when it passes again.
///
/// Input: one byte that picks the kind, the body, then after a zero byte a strategic merge patch.
///
/// # Panics
///
/// If it does not.
pub fn tree(input: &[u8]) {
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
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// What the fuzzer keeps of its way through the code, and what it once broke.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds").join(target);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let seeds: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(seeds.len() > 10, "{} has seeds", folder.display());
        seeds
    }

    #[test]
    fn seeds_of_the_fuzz_targets_pass() {
        seeds("protobuf").iter().for_each(|seed| super::protobuf(seed));
        seeds("tree").iter().for_each(|seed| super::tree(seed));
    }
}
