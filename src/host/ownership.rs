//! Whose files decide what mayfly does: only this user's and root's, where no other user can put others in their
//! place.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::model::{Refusal, RefusalKind};
use crate::sys::file_system::if_exists;

/// How many links the kernel follows in one path (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Refuses a file or directory that belongs to another user than this one and root, or that another can write.
///
/// # Errors
/// `Host`, naming `path`.
pub fn check(path: &Path, about: &Metadata) -> Result<(), Refusal> {
    if !is_trusted_user(about.uid()) {
        let why = format!("belongs to user {}, not to you", about.uid());
        let hint = "mayfly uses only your own files and root's; copy it, or change its owner";
        return Err(refuse(path, &why).hint(hint));
    }
    if is_writable_by_others(about) {
        let why = format!("can be written by others (mode {:04o})", about.mode() & 0o7777);
        return Err(refuse(path, &why).hint(format!("run 'chmod go-w {}'", path.display())));
    }
    Ok(())
}

/// Refuses a path that another user could make lead elsewhere: each directory on its way, and each link that it
/// leads through, must be this user's or root's, and only with the sticky bit, as in /tmp, may others write a
/// directory. What does not exist is accepted, and `path` itself is not checked, unless it is a link.
///
/// # Errors
/// `Host`, naming the directory or link; the path cannot be followed.
pub fn check_way(path: &Path) -> Result<()> {
    let cannot = || format!("cannot follow {}", path.display());
    let mut rest = parts(&std::path::absolute(path).with_context(cannot)?);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    check_above(path, &at, &fs::symlink_metadata(&at).with_context(cannot)?)?;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            // No link is in it any more.
            at.pop();
            continue;
        }
        let next = at.join(part);
        let Some(about) = look(&next)? else { return Ok(()) };
        if !about.is_symlink() && rest.is_empty() {
            return Ok(());
        }
        check_above(path, &next, &about)?;
        if !about.is_symlink() {
            at = next;
            continue;
        }
        // The kernel's links to open files, such as /dev/fd/3, whose text need not be a path.
        if rest.is_empty() && at.starts_with("/proc") {
            return Ok(());
        }
        links += 1;
        if links > MOST_LINKS {
            bail!("{} leads through too many links", path.display());
        }
        let target = fs::read_link(&next).with_context(cannot)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        parts(&target).into_iter().rev().for_each(|part| rest.push_front(part));
    }
    Ok(())
}

/// Refuses what is not a directory, a link to one, one that another user could change, and one on whose way
/// there is such a directory. `false` if it does not exist.
///
/// # Errors
/// `Host`, naming the directory.
pub fn check_directory(path: &Path) -> Result<bool> {
    check_way(path)?;
    let Some(about) = look(path)? else { return Ok(false) };
    check_kind(path, &about, Metadata::is_dir, "a directory")?;
    check(path, &about)?;
    Ok(true)
}

/// Whether there is a file that this user or root has put there, possibly through links.
pub fn is_trusted(path: &Path) -> bool {
    let about = fs::metadata(path);
    check_way(path).is_ok()
        && about.is_ok_and(|about| about.is_file() && check(path, &about).is_ok())
}

/// Refuses what is not a file, a link to one, and one that another user could write; it may be missing. Does not
/// check the way to it.
///
/// # Errors
/// `Host`, naming the file.
pub fn check_file(path: &Path) -> Result<()> {
    if let Some(about) = look(path)? {
        check_kind(path, &about, Metadata::is_file, "a regular file")?;
        check(path, &about)?;
    }
    Ok(())
}

/// Refuses a directory that another user could change, and one that contains a file of that kind or anything but
/// files. `false` if it does not exist. Does not check the way to it.
///
/// A file that `is_shut_in` says may have any mode as long as only its owner can enter the directory.
///
/// # Errors
/// `Host`, naming the directory or file; it cannot be listed.
pub fn check_contents(directory: &Path, is_shut_in: impl Fn(&str) -> bool) -> Result<bool> {
    let Some(about) = look(directory)? else { return Ok(false) };
    check_kind(directory, &about, Metadata::is_dir, "a directory")?;
    check(directory, &about)?;
    let is_shut = about.mode() & 0o077 == 0;
    let cannot = || format!("cannot list {}", directory.display());
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        // What another command deletes meanwhile is not used.
        let Some(about) = look(&entry.path())? else { continue };
        check_kind(&entry.path(), &about, Metadata::is_file, "a regular file")?;
        let may_be_open = is_shut && entry.file_name().to_str().is_some_and(&is_shut_in);
        if !(may_be_open && is_trusted_user(about.uid())) {
            check(&entry.path(), &about)?;
        }
    }
    Ok(true)
}

/// Refuses what is a link or not of this kind, such as "a regular file".
pub fn check_kind(
    path: &Path,
    about: &Metadata,
    is_right: impl Fn(&Metadata) -> bool,
    kind: &str,
) -> Result<(), Refusal> {
    if about.is_symlink() {
        return Err(refuse(path, "is a symbolic link").hint("put in its place what it leads to"));
    }
    if !is_right(about) {
        return Err(refuse(path, &format!("is not {kind}")).hint("move it away"));
    }
    Ok(())
}

fn check_above(path: &Path, above: &Path, about: &Metadata) -> Result<(), Refusal> {
    const STICKY: u32 = 0o1000;
    let why = if !is_trusted_user(about.uid()) {
        format!("which belongs to user {}", about.uid())
    } else if about.is_symlink() || about.mode() & STICKY != 0 || !is_writable_by_others(about) {
        return Ok(());
    } else if about.mode() & 0o002 != 0 {
        "which anyone can change".to_owned()
    } else {
        format!("which group {} can change", about.gid())
    };
    Err(refuse(path, &format!("is below {}, {why}", above.display()))
        .hint(format!("choose another place, or run 'chmod go-w {}'", above.display())))
}

fn look(path: &Path) -> Result<Option<Metadata>> {
    if_exists(fs::symlink_metadata(path))
        .with_context(|| format!("cannot look at {}", path.display()))
}

fn refuse(path: &Path, why: &str) -> Refusal {
    Refusal::new(RefusalKind::Host, format!("{} {why}", path.display()))
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

fn is_trusted_user(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Whether other users than the owner can write it. An ordinary user's own group, which many systems give each
/// user, has no other members; root has no such group.
fn is_writable_by_others(about: &Metadata) -> bool {
    let me = geteuid();
    let is_own_group = || {
        let read =
            |path: &str| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let (users, groups) = (read("/etc/passwd"), read("/etc/group"));
        !me.is_root() && is_private_group(about.gid(), me.as_raw(), &users, &groups)
    };
    about.mode() & 0o002 != 0 || (about.mode() & 0o020 != 0 && !is_own_group())
}

/// Whether a group is named after the user and has no other members, in the texts of passwd(5) and group(5).
fn is_private_group(gid: u32, uid: u32, users: &str, groups: &str) -> bool {
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let is =
        |fields: &[String], at: usize, id: &str| fields.get(at).is_some_and(|field| field == id);
    let users: Vec<_> = users.lines().map(fields).collect();
    let Some(me) = users.iter().find(|user| is(user, 2, &uid)) else { return false };
    let is_others = users.iter().any(|user| is(user, 3, &gid) && !is(user, 2, &uid));
    let group = groups.lines().map(fields).find(|group| is(group, 2, &gid));
    !is_others
        && group.is_some_and(|group| {
            let members = group.get(3).map_or("", String::as_str).split(',');
            group[0] == me[0] && members.into_iter().all(|name| name.is_empty() || name == me[0])
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    const STRANGER: u32 = 65_534;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_private_group_has_one_member_and_that_users_name() {
        let users = "root:x:0:0::/:\nann:x:1000:1000::/:\nbob:x:1001:100::/:\nold:x:1002:1000::/:";
        let groups = "root:x:0:\nusers:x:100:\nann:x:1000:\nbob:x:1001:bob\nwork:x:1003:bob,ann";
        let private = |gid, uid| is_private_group(gid, uid, users, groups);
        assert!(private(1001, 1001));
        // A shared group; the group of another user; one of several members; one that does not exist.
        for gid in [100, 1000, 1003, 1004] {
            assert!(!private(gid, 1001), "{gid}");
        }
        // It is also the group of another user.
        assert!(!private(1000, 1000));
        assert!(!private(1001, 1005), "of a user whom no file lists");
        assert!(!is_private_group(1001, 1001, users, "bob:x:1001:bob,ann"));
    }

    /// What is done to a file or directory, and what the refusal says; `None` if it is accepted.
    type Change = (&'static str, fn(&Path), Option<&'static str>);

    fn changes() -> Vec<Change> {
        let mut changes: Vec<Change> = vec![
            ("its own", |_| {}, None),
            ("read-only", |path| set_mode(path, 0o555), None),
            ("others write", |path| set_mode(path, 0o757), Some("can be written by others")),
            (
                "the group writes",
                |path| {
                    // For root, that of another user; for another user, a group beside the own one.
                    let _ = chown(path, None, Some(100));
                    set_mode(path, 0o775);
                },
                Some("can be written by others"),
            ),
            (
                "a link to what it was",
                |path| {
                    let real = path.with_extension("real");
                    fs::rename(path, &real).unwrap();
                    symlink(&real, path).unwrap();
                },
                Some("is a symbolic link"),
            ),
        ];
        if geteuid().is_root() {
            changes.push((
                "a stranger's",
                |path| chown(path, Some(STRANGER), None).unwrap(),
                Some("belongs to user 65534, not to you"),
            ));
        }
        changes
    }

    #[test]
    fn directories_and_the_files_in_them_are_checked() {
        for level in ["image", "image/file"] {
            for (what, change, why) in changes() {
                let dir = tempfile::tempdir().unwrap();
                let image = dir.path().join("image");
                fs::create_dir(&image).unwrap();
                fs::write(image.join("file"), "").unwrap();
                fs::write(image.join("other"), "").unwrap();
                change(&dir.path().join(level));
                // The link's target stays in the directory.
                let checked = check_contents(&image, |_| false);
                match (checked, why) {
                    (Ok(there), None) => assert!(there),
                    (Err(error), Some(why)) => {
                        assert_eq!(Refusal::find(&error).unwrap().kind, RefusalKind::Host);
                        assert!(error.to_string().contains(why), "{level}, {what}: {error}");
                        assert!(error.to_string().contains(level), "{error}");
                    }
                    (checked, _) => panic!("{level}, {what}: {checked:?}"),
                }
            }
        }
    }

    #[test]
    fn only_files_are_accepted_in_a_directory_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!check_contents(&dir.path().join("none"), |_| false).unwrap());
        fs::create_dir(dir.path().join("below")).unwrap();
        let error = check_contents(dir.path(), |_| false).unwrap_err();
        assert!(error.to_string().ends_with("below is not a regular file"), "{error}");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = check_contents(&file, |_| false).unwrap_err();
        assert!(error.to_string().ends_with("file is not a directory"), "{error}");
    }

    #[test]
    fn a_file_that_is_shut_in_may_be_writable() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory");
        fs::write(&file, "").unwrap();
        set_mode(&file, 0o666);
        set_mode(dir.path(), 0o700);
        assert!(check_contents(dir.path(), |name| name == "memory").unwrap());
        assert!(check_contents(dir.path(), |_| false).is_err());
        set_mode(dir.path(), 0o711);
        assert!(check_contents(dir.path(), |name| name == "memory").is_err());
    }

    #[test]
    fn every_directory_and_link_on_the_way_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a/b/c", "safe"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("a/b/c/file"), "").unwrap();
        // Through two links, one of them relative and with `..`.
        symlink("../a/b", at("safe/link")).unwrap();
        symlink(at("safe/link/c"), at("far")).unwrap();
        symlink(at("far/file"), at("safe/file")).unwrap();
        let ways = [at("a/b/c/file"), at("safe/link/c/file"), at("far/file"), at("safe/file")];
        let all = |good: bool| {
            for way in &ways {
                let checked = check_way(way);
                assert_eq!(checked.is_ok(), good, "{}: {checked:?}", way.display());
            }
        };
        all(true);
        check_way(&at("far/none/at/all")).unwrap();
        for above in ["a", "a/b", "a/b/c"] {
            set_mode(&at(above), 0o777);
            all(false);
            set_mode(&at(above), 0o1777);
            all(true);
            set_mode(&at(above), 0o755);
        }
        if geteuid().is_root() {
            chown(at("a/b"), Some(STRANGER), None).unwrap();
            all(false);
            chown(at("a/b"), Some(0), None).unwrap();
            chown(at("a/b"), None, Some(100)).unwrap();
            set_mode(&at("a/b"), 0o775);
            all(false);
            set_mode(&at("a/b"), 0o755);
            // The link in the middle; the first way does not lead through it.
            lchown(at("safe/link"), Some(STRANGER), None).unwrap();
            check_way(&ways[0]).unwrap();
            let error = check_way(&ways[3]).unwrap_err();
            assert!(
                error.to_string().contains("safe/link, which belongs to user 65534"),
                "{error}"
            );
        }
        symlink("loop", at("loop")).unwrap();
        assert!(check_way(&at("loop/x")).unwrap_err().to_string().contains("too many links"));
    }
}
