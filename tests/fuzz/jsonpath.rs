//! JSONPath. What must hold is said where the function is.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| kubectl::fuzzing::jsonpath(input));
