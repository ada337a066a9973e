//! The kernel that runs here, and what it shows of the CPU.

use std::fs::File;
use std::io::{self, Read};

/// The device by which programs use hardware virtualization.
pub const KVM_DEVICE: &str = "/dev/kvm";

/// The release, as in `uname -r`; empty if it is unknown.
pub fn release() -> String {
    let name = nix::sys::utsname::uname();
    name.map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// The entry of the first CPU in /proc/cpuinfo. The flags of all CPUs are the same, and reading all entries
/// takes milliseconds on a large machine.
pub fn first_cpu() -> io::Result<String> {
    /// Bytes; one entry has about 2000.
    const ENOUGH: u64 = 1 << 14;
    let mut text = Vec::new();
    File::open("/proc/cpuinfo")?.take(ENOUGH).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.split("\n\n").next().unwrap_or_default().to_owned())
}

/// The flag of a CPU's entry that means hardware virtualization: `svm` (AMD) or `vmx` (Intel).
pub fn virtualization_flag(cpu: &str) -> Option<&str> {
    let flags = cpu.lines().filter(|line| line.starts_with("flags"));
    flags.flat_map(str::split_whitespace).find(|flag| ["svm", "vmx"].contains(flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_whole_words() {
        assert_eq!(virtualization_flag("processor : 0\nflags\t\t: fpu vmx sse\n"), Some("vmx"));
        assert_eq!(virtualization_flag("flags : svm\n"), Some("svm"));
        assert_eq!(virtualization_flag("flags : fpu svm_lock vmxx\nbugs : svm\n"), None);
        assert_eq!(virtualization_flag(""), None);
    }
}
