//! Images for tests. Building one takes half a minute, so all tests share those in `MAYFLY_TEST_ARTIFACTS`, by default
//! `target/test-artifacts`. The first test that needs an image builds it; a new agent only changes its initrd. With
//! `MAYFLY_TEST_PROGRAMS`, the images must exist, because nothing can build them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mayfly::image::{ImageStore, LockedImage, ProgressLines};
use mayfly::model::Profile;
use mayfly::settings::load_profiles;

use super::programs;

/// The shared artifacts directory.
pub fn directory() -> PathBuf {
    match std::env::var_os("MAYFLY_TEST_ARTIFACTS") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-artifacts"),
    }
}

/// The Debian mirror, if one is set.
pub fn mirror() -> Option<String> {
    std::env::var("MAYFLY_DEBIAN_MIRROR").ok().filter(|mirror| !mirror.is_empty())
}

/// Returns a built-in profile.
pub fn profile(name: &str) -> Profile {
    let profiles = load_profiles(&directory(), None).expect("the built-in profiles are right");
    profiles.profiles.get(name).expect("a built-in profile").clone()
}

/// Returns the image of a built-in profile, and builds it first if necessary.
pub fn image(name: &str) -> LockedImage {
    let store = ImageStore::open(&directory(), mirror()).expect("the test artifacts are ours");
    let mut progress = ProgressLines::default();
    match store.ensure(&profile(name), &programs::agent(), &mut progress) {
        Ok(image) => image,
        Err(error) => panic!("no image of {name}: {error:#}\n{}", progress.0.join("\n")),
    }
}

/// Returns the artifacts directory with the image of a built-in profile, for `MAYFLY_ARTIFACTS_DIR`.
pub fn artifacts(name: &str) -> PathBuf {
    if programs::brought().is_none() {
        drop(image(name));
    }
    directory()
}

/// Makes `directory` an artifacts directory with a copy of that image and no templates, for tests that count or damage
/// templates.
pub fn apart(name: &str, directory: &Path) {
    let shared = fs::canonicalize(artifacts(name)).expect("the test artifacts are there");
    fs::create_dir(directory).unwrap();
    // The files are mostly holes.
    let copied = Command::new("cp")
        .args(["--archive", "--sparse=auto"])
        .args([shared.join(name), directory.join(name)])
        .status();
    assert!(copied.expect("cp runs").success(), "the image is copied");
}
