//! One direction of the relay is byte-exact, whatever results of I/O the input brings.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| apiproxy::proxy::fuzzing::relay(script));
