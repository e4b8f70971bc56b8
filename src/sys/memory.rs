//! How much memory the system has to spare.

/// Bytes of memory that nothing uses, not even as a cache; 0 if the kernel does not say.
pub fn free() -> u64 {
    // SAFETY: sysinfo is plain data.
    let mut info: libc::sysinfo = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a valid sysinfo for the call to fill in.
    if unsafe { libc::sysinfo(&mut info) } != 0 {
        return 0;
    }
    // Both are as wide as a machine word.
    (info.freeram as u64).saturating_mul(info.mem_unit.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn some_memory_is_free_and_not_more_than_there_is() {
        let total = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
        let total =
            total.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("MemTotal");
        assert!((1..=total << 10).contains(&super::free()));
    }
}
