//! The host's memory.

use std::fs;

/// MiB that programs can still use without swapping; `None` if the kernel does not say.
pub fn available_mib() -> Option<u64> {
    parse(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_found() {
        let meminfo = "MemTotal:       24683452 kB\nMemFree:  1 kB\nMemAvailable:   22990848 kB\n";
        assert_eq!(parse(meminfo), Some(22452));
        assert_eq!(parse("MemTotal: 1 kB\n"), None);
        assert!(available_mib().is_some());
    }
}
