//! What bodies and patches take of memory. What must hold is said where the function is.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: api::fuzzing::Counting = api::fuzzing::Counting;

fuzz_target!(|input: &[u8]| api::fuzzing::memory(input));
