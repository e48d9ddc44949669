//! What a container runtime, or whoever stands in for one, could send as SPDY. What must hold is said where
//! the function is.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| client::streams::fuzzing::spdy(input));
