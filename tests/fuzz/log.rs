//! Segments and records of the store's log: garbage is an error, never a panic, and what is read encodes again.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| embedded_store::fuzzing::log(input));
