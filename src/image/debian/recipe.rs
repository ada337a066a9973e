//! What a recipe says to mmdebstrap. Profile files are edited by hand and shared between people, so
//! every word of one is checked before it becomes part of a command line.

use super::KMOD;
use crate::model::{DebianRecipe, Refusal, RefusalKind};

/// What a throwaway machine does not need: most of the documentation (licences stay), and a package
/// manager that waits for the disk after every file. Guests keep these options.
const DPKG_OPTIONS: [&str; 10] = [
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/help/*",
    "path-exclude=/usr/share/bug/*",
];

const APT_OPTIONS: [&str; 4] = [
    "Acquire::Languages \"none\"",
    "Acquire::Retries \"3\"",
    "Acquire::http::Timeout \"30\"",
    // apt's own user cannot enter our private directories; the sandbox is what keeps it in.
    "APT::Sandbox::User \"root\"",
];

/// What the names of Debian's kernel packages begin with.
const KERNEL_PREFIX: &str = "linux-image-";

/// Refuses a recipe with a word that is not what it should be.
///
/// Errors: `Usage`, quoting the word.
pub fn check(recipe: &DebianRecipe, default_mirror: Option<&str>) -> Result<(), Refusal> {
    if !is_word(&recipe.suite, "-") {
        return Err(unfit("suite", &recipe.suite));
    }
    if !recipe.kernel.strip_prefix(KERNEL_PREFIX).is_some_and(|rest| is_word(rest, "+-.")) {
        return Err(unfit("kernel package (linux-image-...)", &recipe.kernel));
    }
    // Policy 5.6.1: lower-case letters, digits, plus, minus and full stops.
    if let Some(package) = recipe.packages.iter().find(|package| !is_word(package, "+-.")) {
        return Err(unfit("package", package));
    }
    match recipe.mirror.as_deref().or(default_mirror) {
        Some(mirror) if !is_mirror(mirror) => Err(unfit("mirror", mirror)),
        _ => Ok(()),
    }
}

fn unfit(what: &str, word: &str) -> Refusal {
    Refusal::new(RefusalKind::Usage, format!("{word:?} is no {what}")).hint("correct the profile")
}

fn is_word(word: &str, punctuation: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || punctuation.contains(c))
}

fn is_mirror(mirror: &str) -> bool {
    ["http://", "https://", "file:/", "copy:/"].iter().any(|scheme| mirror.starts_with(scheme))
        && mirror.chars().all(|c| c.is_ascii_graphic() && !"'\"\\`$;|&<>()[]{}*?!#".contains(c))
}

/// The options of the mmdebstrap run; suite, target and mirror follow them.
pub fn mmdebstrap_options(recipe: &DebianRecipe) -> Vec<String> {
    let mut packages = vec![KMOD];
    for package in &recipe.packages {
        if !packages.contains(&package.as_str()) {
            packages.push(package);
        }
    }
    let mut options = vec![
        // Root of the sandbox, that is.
        "--mode=root".to_owned(),
        "--variant=essential".to_owned(),
        "--format=directory".to_owned(),
        // The guest's /dev is the kernel's, and a sandbox cannot mount /sys.
        "--skip=output/dev,output/mknod,chroot/mount/sys".to_owned(),
        format!("--include={}", packages.join(",")),
    ];
    options.extend(DPKG_OPTIONS.iter().map(|option| format!("--dpkgopt={option}")));
    options.extend(APT_OPTIONS.iter().map(|option| format!("--aptopt={option}")));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> DebianRecipe {
        DebianRecipe {
            suite: "bookworm".into(),
            mirror: None,
            kernel: "linux-image-cloud-amd64".into(),
            packages: vec!["bash".into(), "kmod".into(), "libstdc++6".into()],
            root_mib: 512,
            disk_mib: 1024,
        }
    }

    #[test]
    fn options_name_each_package_once() {
        let options = mmdebstrap_options(&recipe());
        assert!(options.contains(&"--include=kmod,bash,libstdc++6".to_owned()));
        assert!(options.iter().all(|option| option.starts_with("--")));
    }

    #[test]
    fn nothing_smuggles_an_option_in() {
        check(&recipe(), None).unwrap();
        check(&recipe(), Some("file:/srv/debian")).unwrap();
        for kernel in ["linux-image-amd64", "linux-image-6.1.0-56-rt-amd64"] {
            check(&DebianRecipe { kernel: kernel.into(), ..recipe() }, None).unwrap();
        }
        for bad in ["", "-x", "a b", "a,b", "a\n", "A", "--hook=x", "../x", "a;b", "é"] {
            let suite = DebianRecipe { suite: bad.into(), ..recipe() };
            assert!(check(&suite, None).is_err(), "{bad:?}");
            for kernel in [bad.to_owned(), format!("linux-image-{bad}")] {
                let recipe = DebianRecipe { kernel, ..recipe() };
                assert!(check(&recipe, None).is_err(), "{:?}", recipe.kernel);
            }
            let packages = DebianRecipe { packages: vec![bad.into()], ..recipe() };
            assert!(check(&packages, None).is_err(), "{bad:?}");
        }
        let bad_mirrors = [
            "",
            "--x",
            "-",
            "deb http://x y main",
            "http://a b",
            "http://a\nb",
            "http://$(x)",
            "/x",
        ];
        for bad in bad_mirrors {
            assert!(check(&DebianRecipe { mirror: Some(bad.into()), ..recipe() }, None).is_err());
            assert!(check(&recipe(), Some(bad)).is_err(), "{bad:?}");
        }
    }
}
