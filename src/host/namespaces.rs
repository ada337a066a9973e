//! Whether this user may make user namespaces with a range of ids in them.

use std::fs;

use nix::unistd::{User, geteuid};

/// Whether the kernel lets an ordinary user make user namespaces, as far as its settings tell.
pub fn are_allowed() -> bool {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    // The second is Debian's own switch, and absent elsewhere.
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
