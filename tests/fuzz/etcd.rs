//! Transactions as clients of the etcd API send them, up to where the store would get them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| embedded_store::fuzzing::request(input));
