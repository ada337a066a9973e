//! The user a command runs as, from `/etc/passwd` and `/etc/group`. The C library's lookup loads plugins,
//! which a statically linked program cannot use.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAccount {
    pub name: OsString,
    pub ids: UserIds,
    pub home: OsString,
    pub shell: OsString,
}

/// The ids of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserIds {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, including the primary one.
    pub groups: Vec<u32>,
}

struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
    shell: &'a [u8],
}

/// Resolves `USER` or `USER:GROUP`, each a name or a number, against the contents of the two files. A
/// number without an entry is a user without a name whose home is `/`, as with container tools.
///
/// # Errors
/// The user or the group that does not exist.
pub fn resolve(spec: &str, passwd: &[u8], group: &[u8]) -> Result<UserAccount, String> {
    let (user, explicit_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let mut account = by_user(user, passwd).ok_or_else(|| format!("no user {user:?}"))?;
    let ids = &mut account.ids;
    match explicit_group {
        Some(wanted) => {
            ids.gid = by_group(wanted, group).ok_or_else(|| format!("no group {wanted:?}"))?;
            ids.groups = vec![ids.gid];
        }
        None => {
            ids.groups = vec![ids.gid];
            ids.groups.extend(memberships(account.name.as_bytes(), group));
            ids.groups.sort_unstable();
            ids.groups.dedup();
        }
    }
    Ok(account)
}

fn by_user(user: &str, passwd: &[u8]) -> Option<UserAccount> {
    let number = user.parse::<u32>().ok();
    // A number is looked up as a name first, as POSIX requires of chown.
    let entry = passwd_entries(passwd)
        .find(|entry| entry.name == user.as_bytes())
        .or_else(|| passwd_entries(passwd).find(|entry| Some(entry.uid) == number));
    let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    match entry {
        Some(entry) => Some(UserAccount {
            name: text(entry.name),
            ids: UserIds { uid: entry.uid, gid: entry.gid, groups: Vec::new() },
            home: text(if entry.home.is_empty() { b"/" } else { entry.home }),
            shell: text(if entry.shell.is_empty() { b"/bin/sh" } else { entry.shell }),
        }),
        None => number.map(|uid| UserAccount {
            name: user.into(),
            ids: UserIds { uid, gid: 0, groups: Vec::new() },
            home: "/".into(),
            shell: "/bin/sh".into(),
        }),
    }
}

fn by_group(wanted: &str, group: &[u8]) -> Option<u32> {
    group_entries(group)
        .find(|(name, _, _)| *name == wanted.as_bytes())
        .map(|(_, gid, _)| gid)
        .or_else(|| wanted.parse().ok())
}

fn memberships<'a>(name: &'a [u8], group: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
    group_entries(group)
        .filter(move |(_, _, members)| members.split(|&b| b == b',').any(|member| member == name))
        .map(|(_, gid, _)| gid)
}

fn passwd_entries(passwd: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    passwd.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
        let (_gecos, home, shell) = (fields.next()?, fields.next()?, fields.next()?);
        Some(PasswdEntry { name, uid, gid, home, shell })
    })
}

fn group_entries(group: &[u8]) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    group.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let (name, _password) = (fields.next()?, fields.next()?);
        Some((name, number(fields.next()?)?, fields.next()?))
    })
}

fn number(field: &[u8]) -> Option<u32> {
    str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n# comment\nnobody:x:65534:65534::/:\n\
        build:x:1000:1000:B:/home/build:/bin/zsh\n42:x:7:7::/odd:/bin/sh";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:build,root\nbuild:x:1000:\nkvm:x:105:nobody,build\n";

    #[test]
    fn names_and_numbers_resolve_with_their_groups() {
        let build = resolve("build", PASSWD, GROUP).unwrap();
        assert_eq!(
            (build.ids.uid, build.ids.gid, &build.ids.groups[..]),
            (1000, 1000, &[4, 105, 1000][..])
        );
        assert_eq!(
            (build.home.to_str(), build.shell.to_str()),
            (Some("/home/build"), Some("/bin/zsh"))
        );
        assert_eq!(resolve("1000", PASSWD, GROUP).unwrap(), build);
        let grouped = resolve("build:adm", PASSWD, GROUP).unwrap();
        assert_eq!((grouped.ids.gid, &grouped.ids.groups[..]), (4, &[4][..]));
        assert_eq!(resolve("42", PASSWD, GROUP).unwrap().ids.uid, 7);
        assert_eq!(resolve("nobody", PASSWD, GROUP).unwrap().shell, "/bin/sh");
    }

    #[test]
    fn a_number_needs_no_entry_and_a_name_does() {
        let stranger = resolve("4711:12", PASSWD, GROUP).unwrap();
        assert_eq!(
            (stranger.ids.uid, stranger.ids.gid, stranger.home.to_str()),
            (4711, 12, Some("/"))
        );
        assert_eq!(resolve("who", PASSWD, GROUP).unwrap_err(), "no user \"who\"");
        assert_eq!(resolve("root:who", PASSWD, GROUP).unwrap_err(), "no group \"who\"");
        assert!(resolve("", PASSWD, GROUP).is_err());
        assert!(resolve("-1", PASSWD, GROUP).is_err());
    }
}
