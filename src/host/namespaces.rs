//! Which namespaces this user may create.

use std::fs;

use nix::unistd::{User, geteuid};

/// Whether the kernel's settings let an ordinary user create user namespaces.
pub fn are_allowed() -> bool {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    // The second exists only on Debian and its derivatives.
    number("/proc/sys/user/max_user_namespaces").unwrap_or(1) > 0
        && number("/proc/sys/kernel/unprivileged_userns_clone").unwrap_or(1) > 0
}

/// Whether this user has entries in `/etc/subuid` and `/etc/subgid`.
pub fn has_subordinate_ids() -> bool {
    let uid = geteuid();
    let mut names = vec![uid.to_string()];
    names.extend(std::env::var("USER").ok());
    names.extend(User::from_uid(uid).ok().flatten().map(|user| user.name));
    let listed = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().any(|line| {
            let owner = line.split(':').next().unwrap_or_default();
            names.iter().any(|name| name == owner)
        })
    };
    listed("/etc/subuid") && listed("/etc/subgid")
}

/// Whether root may mount and create namespaces. In a container it often may not.
pub fn root_may_make_them() -> bool {
    may_administer(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// Whether the effective capabilities hold `CAP_SYS_ADMIN`, which is number 21 (capabilities(7)).
fn may_administer(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & (1 << 21) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_in_a_container_may_not_mount() {
        assert!(may_administer("CapPrm:\t0\nCapEff:\t000001ffffffffff\n"));
        // Docker's default.
        assert!(!may_administer("CapEff:\t00000000a80425fb\n"));
        assert!(!may_administer("CapEff:\tnonsense\n"));
        assert!(!may_administer(""));
    }
}
