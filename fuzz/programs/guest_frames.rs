#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mayfly::fuzz::run("guest_frames", input));
