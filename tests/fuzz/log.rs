//! Segments and records of the store's log. What must hold is said where the function is.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| embedded_store::fuzzing::log(input));
