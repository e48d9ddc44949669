//! Protobuf bodies: no bytes panic, and what decodes once encodes to something that decodes to the same.

#![no_main]

use api::protobuf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(first) = protobuf::decode(bytes) else { return };
    // The first pass may drop what has no meaning (unknown fields, zero values); after that nothing changes.
    let Ok(encoded) = protobuf::encode(&first) else { return };
    let second = protobuf::decode(&encoded).expect("our own encoding decodes");
    let encoded = protobuf::encode(&second).expect("what we decoded encodes");
    let third = protobuf::decode(&encoded).expect("our own encoding decodes");
    assert_eq!(second, third);
});
