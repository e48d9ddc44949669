//! What clients of the etcd API send: requests, and bytes before they are any. What must hold is said where
//! the function is.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| embedded_store::fuzzing::etcd(input));
