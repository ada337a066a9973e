//! What the user can do if a program fails while an image is built.

use std::path::Path;

use anyhow::Error;

use crate::host::tool::{ToolFailure, ToolInterrupted};
use crate::model::{QuotedOutput, Refusal, RefusalKind};

/// Parts of error messages, and the remedy. The first that matches counts.
const REMEDIES: [(&[&str], &str); 8] = [
    (&["No space left on device", "not enough free space"], "free some space on the file system"),
    (
        &["/etc/subuid", "/etc/subgid", "newuidmap", "newgidmap"],
        "give yourself subordinate ids, as root: usermod --add-subuids 100000-165535 \
         --add-subgids 100000-165535 $USER",
    ),
    (
        &["unshare failed: Operation not permitted", "unshare failed: No space left"],
        "this host forbids the namespaces that building needs: allow user namespaces (sysctl \
         user.max_user_namespaces and, where they exist, kernel.unprivileged_userns_clone and \
         kernel.apparmor_restrict_unprivileged_userns), or build as root",
    ),
    (
        &["NO_PUBKEY", "is not signed", "public key is not available"],
        "install Debian's keys: apt install debian-archive-keyring",
    ),
    (
        &["the suite has no linux-image-"],
        "correct the profile's kernel: its suite has no kernel package of that name",
    ),
    (
        &["Unable to locate package", "has no installation candidate"],
        "correct the profile's packages: one of them does not exist in its suite",
    ),
    (
        &[
            "Could not resolve",
            "Temporary failure resolving",
            "Could not connect",
            "Network is unreachable",
            "Failed to fetch",
            "Connection timed out",
            "Unable to connect",
            "does not have a Release file",
        ],
        "check the network and the profile's suite, or name a mirror in MAYFLY_DEBIAN_MIRROR",
    ),
    (
        &["Could not allocate block", "while populating file system"],
        "make the root file system larger: root_mib in the profile",
    ),
];

/// Turns the failure of a program into a refusal with the program's last lines and a remedy. Other errors
/// get `doing` as their context.
pub fn explain(error: Error, doing: &str, place: &Path) -> Error {
    if error.is::<ToolInterrupted>() {
        return error;
    }
    let Some(failed) = error.downcast_ref::<ToolFailure>() else {
        return error.context(doing.to_owned());
    };
    let mut refusal = Refusal::new(RefusalKind::Host, format!("{doing}: {failed}"));
    if !failed.tail.is_empty() {
        refusal.quoted =
            vec![QuotedOutput { of: failed.program.clone(), lines: failed.tail.clone() }];
    }
    let remedy =
        REMEDIES.iter().find(|(signs, _)| signs.iter().any(|sign| failed.tail_contains(sign)));
    match remedy {
        Some((_, remedy)) if remedy.starts_with("free some space") => {
            refusal.hint(format!("{remedy} of {}", lasting(place).display())).into()
        }
        Some((_, remedy)) => refusal.hint(*remedy).into(),
        None => refusal.into(),
    }
}

/// The part of a path that remains when the build directory is deleted.
fn lasting(place: &Path) -> &Path {
    let is_build = |part: &Path| {
        part.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".build-"))
    };
    let build = place.ancestors().find(|part| is_build(part));
    build.and_then(Path::parent).unwrap_or(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(line: &str) -> Option<String> {
        let failed = ToolFailure {
            program: "mmdebstrap".into(),
            status: "exit status: 25".into(),
            tail: vec![line.into()],
        };
        let error =
            explain(failed.into(), "cannot install packages", Path::new("/a/.build-x/work"));
        let refusal = Refusal::find(&error).unwrap();
        assert_eq!(refusal.kind, RefusalKind::Host);
        assert_eq!(refusal.quoted[0].lines, [line]);
        refusal.hint.clone()
    }

    #[test]
    fn usual_errors_have_remedies() {
        let cases = [
            ("tar: x: Cannot write: No space left on device", "file system of /a\n"),
            ("E: Temporary failure resolving 'mirror'", "MAYFLY_DEBIAN_MIRROR"),
            ("E: Unable to locate package nonsense", "packages"),
            ("the suite has no linux-image-nonsense", "profile's kernel"),
            ("unshare: no line matching user \"x\" in /etc/subuid", "subordinate ids"),
            ("unshare: unshare failed: Operation not permitted", "as root"),
            ("W: GPG error: NO_PUBKEY 0E98404D386FA1D9", "debian-archive-keyring"),
            ("__populate_fs: Could not allocate block in ext2 filesystem", "root_mib"),
        ];
        for (line, remedy) in cases {
            assert!((hint(line).unwrap() + "\n").contains(remedy), "{line}");
        }
        assert_eq!(hint("something else"), None);
    }

    #[test]
    fn an_interruption_stays_one() {
        assert!(explain(ToolInterrupted.into(), "x", Path::new("/")).is::<ToolInterrupted>());
    }
}
