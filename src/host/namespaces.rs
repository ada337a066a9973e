//! Which namespaces this user may create.

use std::fs;

use nix::unistd::{User, geteuid};

use crate::sys::process::own_status;

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
        let text = fs::read(path).unwrap_or_default();
        text.split(|&byte| byte == b'\n').any(|line| {
            let owner = line.split(|&byte| byte == b':').next();
            names.iter().any(|name| Some(name.as_bytes()) == owner)
        })
    };
    listed("/etc/subuid") && listed("/etc/subgid")
}

/// Whether root may mount and create namespaces. In a container it often may not.
pub fn root_may_create() -> bool {
    own_status("CapEff", 16).is_some_and(has_sys_admin)
}

/// Whether a set of capabilities has `CAP_SYS_ADMIN`, which is number 21 (capabilities(7)).
fn has_sys_admin(set: u64) -> bool {
    set & (1 << 21) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_in_a_container_may_not_mount() {
        assert!(has_sys_admin(0x1ff_ffff_ffff));
        // Docker's default.
        assert!(!has_sys_admin(0xa804_25fb));
    }
}
