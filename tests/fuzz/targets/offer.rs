#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rillbox_fuzz::offer(data));
