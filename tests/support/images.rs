//! Images for tests. Building one takes half a minute, so all tests share those in one directory:
//! `MAYFLY_TEST_ARTIFACTS`, or `target/test-artifacts`. They are built when first needed, under the
//! store's own lock, and only their initrd is packed anew when the agent changes. Where the programs
//! were brought from elsewhere, the images were too, and nothing can build one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

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

/// Where packages come from, if somebody said so.
pub fn mirror() -> Option<String> {
    std::env::var("MAYFLY_DEBIAN_MIRROR").ok().filter(|mirror| !mirror.is_empty())
}

/// A built-in profile.
pub fn profile(name: &str) -> Profile {
    let profiles = load_profiles(&directory(), None).expect("the built-in profiles are right");
    profiles.profiles.get(name).expect("a built-in profile").clone()
}

/// The image of a built-in profile, built if need be.
pub fn image(name: &str) -> LockedImage {
    let store = ImageStore::open(&directory(), mirror()).expect("the test artifacts are ours");
    let mut progress = ProgressLines::default();
    match store.ensure(&profile(name), &programs::agent(), &mut progress) {
        Ok(image) => image,
        Err(error) => panic!("no image of {name}: {error:#}\n{}", progress.0.join("\n")),
    }
}

/// The artifacts directory with the image of a built-in profile in it, for `MAYFLY_ARTIFACTS_DIR`.
pub fn artifacts(name: &str) -> PathBuf {
    if programs::brought().is_none() {
        drop(image(name));
    }
    directory()
}

/// Makes `directory` an artifacts directory with that image and no templates, for tests that count or
/// harm those. It is a link: what is in the image, nobody may change.
pub fn apart(name: &str, directory: &Path) {
    let shared = fs::canonicalize(artifacts(name)).expect("the test artifacts are there");
    fs::create_dir(directory).unwrap();
    symlink(shared.join(name), directory.join(name)).unwrap();
}
