//! Files and directories of other users, or that they could write or replace, at each level; and /dev/null, which
//! everyone can write.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::support::environment::Environment;

const STRANGER: u32 = 65_534;

/// A group that several users may be in: no group of root's is private, and no ordinary user's has this number.
const SHARED_GROUP: u32 = 100;

/// What is done to a file or directory.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Mode(u32),
    /// It belongs to a group with this access, which only root can make it.
    Group(u32),
    Owner,
    /// It is a link to what it was. The link belongs to the user.
    Link,
    /// As `Link`, but the link belongs to another user.
    ForeignLink,
}

impl Change {
    /// Makes the change and returns how to undo it.
    fn make(self, path: &Path) -> Box<dyn Fn()> {
        let before = path.metadata().unwrap().permissions();
        let path = path.to_owned();
        let real = path.with_added_extension("real");
        match self {
            Change::Mode(mode) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Change::Group(mode) => {
                chown(&path, None, Some(SHARED_GROUP)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Change::Owner => chown(&path, Some(STRANGER), None).unwrap(),
            Change::Link | Change::ForeignLink => {
                fs::rename(&path, &real).unwrap();
                symlink(&real, &path).unwrap();
                if self == Change::ForeignLink {
                    lchown(&path, Some(STRANGER), None).unwrap();
                }
            }
        }
        Box::new(move || {
            if path.is_symlink() {
                fs::remove_file(&path).unwrap();
                fs::rename(&real, &path).unwrap();
            }
            if geteuid().is_root() {
                chown(&path, Some(0), Some(0)).unwrap();
            }
            fs::set_permissions(&path, before.clone()).unwrap();
        })
    }

    fn is_possible(self) -> bool {
        geteuid().is_root() || matches!(self, Change::Mode(_) | Change::Link)
    }
}

/// Checks that each verb is refused after each change of each path, and that it works again when it is undone.
/// `accepted` says which changes are good.
fn matrix(
    env: &Environment,
    paths: &[PathBuf],
    verbs: &[&[&str]],
    accepted: impl Fn(&Path, Change) -> bool,
) {
    use Change::{ForeignLink, Group, Link, Mode, Owner};
    for path in paths {
        let directory = path.is_dir();
        let executable = if directory { 0o111 } else { 0 };
        for change in [
            Mode(0o644 | executable),
            Mode(0o666 | executable),
            Mode(0o646 | executable),
            Group(0o664 | executable),
            Group(0o644 | executable),
            Owner,
            Link,
            ForeignLink,
        ] {
            if !change.is_possible() {
                continue;
            }
            let undo = change.make(path);
            let is_good = matches!(change, Mode(mode) | Group(mode) if mode & 0o022 == 0)
                || accepted(path, change);
            for verb in verbs {
                let answer = env.run(verb);
                let what = format!("{} {change:?}, {verb:?}: {answer}", path.display());
                let failure = if verb[0] == "run" { 125 } else { 6 };
                assert_eq!(answer.code(), if is_good { 0 } else { failure }, "{what}");
                if !is_good {
                    assert!(answer.stdout.is_empty(), "{what}");
                    let said = answer.stderr();
                    let shown = path.display().to_string();
                    assert!(said.starts_with("mayfly: ") && said.contains(&shown), "{what}");
                    assert!(said.contains("\nhint: "), "{what}");
                }
            }
            undo();
        }
    }
    for verb in verbs {
        assert_eq!(env.run(verb).code(), 0, "{verb:?}");
    }
}

#[test]
fn null_stands_for_no_file() {
    let mut env = Environment::mock();
    for variable in ["MAYFLY_CONFIG", "MAYFLY_PROFILES"] {
        env.set(variable, "/dev/null");
    }
    env.run(&["run", "--env-file", "/dev/null", "--", "echo", "fine"]).prints("fine\n");
    env.run(&["config", "show", "mem"]).is(0, "[..]\nmem  1G     profile debian-base\n", "");
    // No other device is a file.
    env.set("MAYFLY_CONFIG", "/dev/zero");
    env.run(&["status"]).fails(2, "mayfly: MAYFLY_CONFIG: /dev/zero is not a regular file\nhint: name a file, or /dev/null for none\n");
}

#[test]
fn files_of_settings_are_checked_and_everything_above_them() {
    for (variable, text) in [
        ("MAYFLY_CONFIG", "mem = \"400M\"\n"),
        ("MAYFLY_PROFILES", "[profiles.debian-base]\nmem_mib = 400\n"),
    ] {
        let mut env = Environment::mock();
        let above = env.root().join("above");
        fs::create_dir_all(above.join("directory")).unwrap();
        let file = above.join("directory/file.toml");
        fs::write(&file, text).unwrap();
        env.set(variable, &file);
        let paths = [file.clone(), above.join("directory"), above];
        // Users keep such files elsewhere and link to them.
        matrix(&env, &paths, &[&["profiles"], &["run", "--", "true"]], |_, change| {
            change == Change::Link
        });
        // Others may write a directory in which only owners may replace files.
        fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o1777)).unwrap();
        env.run(&["run", "--", "true"]).prints("");
        // A link in a safe place to a file in another that is not.
        let link = env.root().join("link.toml");
        symlink(&file, &link).unwrap();
        env.set(variable, &link);
        env.run(&["run", "--", "true"]).prints("");
        fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        env.run(&["run", "--", "true"]).fails(
            125,
            "mayfly: [..]link.toml is below [..], which anyone can change\nhint: [..]\n",
        );
    }
}

#[test]
fn profiles_of_imported_images_are_checked_and_everything_above_them() {
    let env = Environment::mock();
    let image = env.artifacts().join("app");
    fs::create_dir_all(&image).unwrap();
    let text = "[imported]\nsource = \"app.tar\"\nform = \"tar\"\nkernel = \"linux-image-cloud-amd64\"\n\
                [profile]\ndescription = \"An app.\"\n";
    fs::write(image.join("profile.toml"), text).unwrap();
    let paths = [image.join("profile.toml"), image, env.artifacts()];
    matrix(&env, &paths, &[&["profiles"], &["run", "--profile", "app", "--", "true"]], |_, _| {
        false
    });
}

#[test]
fn the_registry_is_checked() {
    let env = Environment::mock();
    env.run(&["reap"]).prints("");
    let id = env.create(&["--keep"]);
    matrix(&env, &[env.registry()], &[&["status"], &["start", &id], &["stop", &id]], |_, _| false);
    env.rm(&id);
}

#[test]
fn images_are_checked_file_by_file() {
    let mut env = Environment::qemu();
    env.keep_templates_apart();
    env.run(&["create"]).line();
    let image = env.artifacts().join("debian-base");
    let files =
        ["image.json", "vmlinux", "initrd.img", "rootfs.ext4", "disk.ext4", "verified.json"];
    let mut paths: Vec<PathBuf> = files.iter().map(|file| image.join(file)).collect();
    paths.push(image.clone());
    let id = env.ids().remove(0);
    matrix(&env, &paths, &[&["image", "build", "debian-base"]], |_, _| false);
    // What is not trusted is not listed, and can be deleted.
    let undo = Change::Link.make(&image);
    env.run(&["start", &id]).fails(6, "mayfly: [..]debian-base is a symbolic link\nhint: [..]\n");
    env.run(&["image", "ls", "--json"]).prints("[]\n");
    undo();
    env.rm(&id);
    let _ = Change::Link.make(&image);
    env.run(&["image", "rm", "debian-base"]).prints("debian-base\n");
    assert!(!image.is_symlink() && image.with_added_extension("real").join("vmlinux").exists());
}
