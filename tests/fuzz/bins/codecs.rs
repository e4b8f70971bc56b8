#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| thimble::fuzz::run("codecs", data));
