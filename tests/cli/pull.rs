//! `mayfly image pull`, `--image` and the profile key `image`: what is pulled, when, and what stays.
//! `tests/conformance/pulled.rs` boots a pulled image.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::archives::{Image, content, layer, layout, oci, pack};
use crate::support::environment::Environment;
use crate::support::registry::ImageRegistry;

/// An environment with its own images, whose user has logged in to a registry.
pub fn environment() -> (Environment, ImageRegistry) {
    let mut env = Environment::mock();
    env.keep_templates_apart();
    let registry = ImageRegistry::start();
    registry.log_in(&env);
    (env, registry)
}

/// An image of one base layer and another, which prints its name.
pub fn named(name: &str) -> Image {
    let execution = json!({ "Entrypoint": ["/bin/echo", name] });
    let layers = [base(), layer(&[("etc/name", name)])];
    Image { execution, ..Image::of(&layers) }
}

fn base() -> Vec<u8> {
    // A registry's copy is compressed, and must still be the largest blob.
    let mut state = 1_u64;
    let mut digits = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{state:016x}")
    };
    layer(&[("etc/base", &(0..2_000).map(|_| digits()).collect::<String>())])
}

pub fn archive(image: &Image) -> Vec<u8> {
    oci(&[("v1", image)])
}

/// An archive of an index of images.
pub fn index(images: &[&Image]) -> Vec<u8> {
    let mut blobs = Vec::new();
    let pointers: Vec<Value> = images.iter().map(|image| image.blobs(&mut blobs)).collect();
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": pointers }).to_string();
    let digest = super::archives::digest(index.as_bytes());
    let pointer = json!({ "mediaType": kind, "digest": digest, "size": index.len() });
    blobs.push(index.into_bytes());
    pack(&layout(blobs, &[pointer]))
}

/// The blobs that are kept.
pub fn blobs(env: &Environment) -> Vec<PathBuf> {
    let entries = fs::read_dir(env.artifacts().join("blobs/sha256")).into_iter().flatten();
    let mut blobs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    blobs.sort();
    blobs
}

#[track_caller]
pub fn name_in(env: &Environment, profile: &str) -> String {
    content(&env.artifacts().join(profile), "/etc/name")
}

/// What `image ls` says about the image of a profile.
#[track_caller]
fn listed(env: &Environment, profile: &str) -> Value {
    let images = env.run(&["image", "ls", "--json"]).json();
    let mut images = images.as_array().unwrap().iter();
    images.find(|image| image["profile"] == profile).cloned().unwrap_or_default()
}

#[test]
fn an_image_is_pulled_by_tag_and_by_digest_and_updated_when_its_tag_moves() {
    let (env, mut registry) = environment();
    let reference = registry.push(&archive(&named("one")), "team/app:v1");
    let pull = |words: &[&str]| env.run(&[&["image", "pull"], words].concat());
    pull(&[&reference, "--mem", "512M"]).is(
        0,
        "app-v1\n",
        &format!("mayfly: [1/4] pulling {reference}\nmayfly: [2/4] [..]\n[..]"),
    );
    let before = listed(&env, "app-v1");
    assert_eq!(
        (&before["reference"], &before["recipe"]["image"], name_in(&env, "app-v1")),
        (&json!(reference), &json!(reference), "one".into())
    );
    let digest = before["digest"].as_str().unwrap().to_owned();
    let short = &digest["sha256:".len()..][..12];
    env.run(&["image", "ls"])
        .prints(&format!("PROFILE [..]\napp-v1 [..] {reference} ({short}) [..]"));
    pull(&[&reference]).is(0, "app-v1\n", &format!("mayfly: {reference} is up to date\n"));
    pull(&["-q", &reference]).is(0, "app-v1\n", "");
    assert_eq!(listed(&env, "app-v1"), before, "nothing was done");

    // The digest wins over the tag, and its profile has another name.
    let pinned = format!("{}@{digest}", registry.name("team/app:none"));
    let profile = format!("app-{short}");
    pull(&["-q", &pinned]).is(0, &format!("{profile}\n"), "");
    assert_eq!(listed(&env, &profile)["digest"], json!(digest));

    registry.push(&archive(&named("two")), "team/app:v1");
    pull(&["-q", &reference]).is(0, "app-v1\n", "");
    assert_eq!(name_in(&env, "app-v1"), "two");
    assert_ne!(listed(&env, "app-v1")["digest"], json!(digest));
    let profiles = env.run(&["profiles", "--json"]).json();
    let found = profiles.as_array().unwrap().iter().find(|one| one["profile"] == "app-v1").unwrap();
    assert_eq!(
        (&found["mem_mib"], &found["entrypoint"]),
        (&json!(512), &json!(["/bin/echo", "two"]))
    );
    assert_eq!(name_in(&env, &profile), "one");

    // What a digest means is known without the registry, and everything is there.
    registry.stop();
    env.run(&["image", "rm", &profile]).prints(&format!("{profile}\n"));
    pull(&["-q", &pinned]).is(0, &format!("{profile}\n"), "");
    assert_eq!(name_in(&env, &profile), "one");
    pull(&["-q", &reference]).fails(6, "mayfly: cannot pull [..]: [..] cannot be reached\n[..]");
}

#[test]
fn blobs_are_kept_once_and_as_long_as_an_image_needs_them() {
    let (env, registry) = environment();
    let one = registry.push(&archive(&named("one")), "app:one");
    let two = registry.push(&archive(&named("two")), "app:two");
    env.run(&["image", "pull", "-q", &one]).prints("app-one\n");
    // Two layers, configuration and manifest.
    let of_one = blobs(&env);
    assert_eq!(of_one.len(), 4, "{of_one:?}");
    let requests = || registry.log().matches("http.request.method=GET").count();
    let before = requests();
    env.run(&["image", "pull", "-q", &two]).prints("app-two\n");
    let of_both = blobs(&env);
    assert_eq!(of_both.len(), 7, "the base is there once: {of_both:?}");
    assert!(requests() > before);

    // A damaged blob is fetched again, and only that.
    let base = of_one.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    fs::write(base, "damaged").unwrap();
    env.run(&["image", "rm", "app-two"]).prints("app-two\n");
    let digest = base.file_name().unwrap().to_str().unwrap();
    env.run(&["image", "pull", &two]).is(
        0,
        "app-two\n",
        &format!("[..]mayfly: sha256:{digest} was damaged on the disk, and is fetched again\n[..]"),
    );
    assert_eq!((name_in(&env, "app-two"), blobs(&env)), ("two".into(), of_both.clone()));
    // So is a manifest.
    for blob in of_both.iter().filter(|path| fs::read(path).unwrap().starts_with(b"{")) {
        fs::write(blob, "{}").unwrap();
    }
    env.run(&["image", "pull", "-q", "--force", &one, "--mem", "1G"]).prints("app-one\n");
    env.run(&["image", "pull", "-q", "--force", &two, "--mem", "1G"]).prints("app-two\n");
    assert!(of_both.iter().all(|path| fs::read(path).unwrap().len() > 2));
    let group = |kind: &str| {
        let df = env.run(&["df", "--json"]).json();
        let mut groups = df["groups"].as_array().unwrap().iter();
        groups.find(|group| group["kind"] == kind).unwrap().clone()
    };
    assert_eq!(
        (&group("blobs")["count"], &group("blobs")["reclaimable_bytes"]),
        (&json!(7), &json!(0))
    );

    env.run(&["image", "prune"]).is(0, "", "mayfly: freed 0 MB\n");
    env.run(&["image", "rm", "app-two"]).prints("app-two\n");
    assert_eq!(blobs(&env), of_both);
    let dry = env.run(&["image", "prune", "--dry-run", "--json"]).json();
    assert_eq!(dry["deletions"].as_array().unwrap().len(), 3, "{dry}");
    env.run(&["image", "prune", "-q", "--json"]).json();
    assert_eq!(blobs(&env), of_one);
    env.run(&["image", "rm", "app-one"]).prints("app-one\n");
    env.run(&["image", "prune", "-q", "--json"]).json();
    assert_eq!(blobs(&env), [""; 0].map(PathBuf::from));
}

#[test]
fn the_image_for_this_machine_is_taken_from_an_index() {
    let (env, registry) = environment();
    let arm = Image { architecture: "arm64", ..named("arm") };
    let both = registry.push(&index(&[&arm, &named("ours")]), "both");
    env.run(&["image", "pull", "-q", &both]).prints("both\n");
    assert_eq!(name_in(&env, "both"), "ours");
    let arm = registry.push(&index(&[&arm]), "arm");
    env.run(&["image", "pull", "-q", &arm]).fails(
        6,
        "mayfly: cannot pull [..]: the image is for linux/arm64, but VMs here are linux/amd64\nhint: [..]",
    );
}

#[test]
fn run_and_create_pull_an_image_once_and_update_it_when_asked() {
    let (mut env, mut registry) = environment();
    let reference = registry.push(&archive(&named("one")), "team/app");
    let run = |env: &Environment, words: &[&str]| {
        env.run(&[&["run", "-q", "--image", &reference], words].concat())
    };
    run(&env, &["--pull", "never", "x"]).fails(
        125,
        "mayfly: no image of [..] is here, and --pull never forbids to pull it\nhint: pull it first: mayfly image pull [..]",
    );
    run(&env, &["x"]).is(0, "one x\n", "");
    registry.push(&archive(&named("two")), "team/app");
    run(&env, &["x"]).is(0, "one x\n", "");
    run(&env, &["--pull", "newer"]).is(0, "two\n", "");
    // It is what `image pull` makes, and a variable does not contradict it.
    env.set("MAYFLY_PROFILE", "debian-git");
    let id = env.run(&["create", "--image", &reference, "--pull", "missing"]).line();
    assert_eq!(env.status(&id)["profile"], "app");
    env.rm(&id);
    env.unset("MAYFLY_PROFILE");
    run(&env, &["-p", "app"])
        .fails(125, "mayfly: '--image' and '--profile' exclude each other\n[..]");
    env.run(&["run", "--pull", "newer", "x"])
        .fails(125, "mayfly: '--pull' has no meaning for profile debian-base[..]");
    env.run(&["run", "--image", "No/Name", "x"]).fails(125, "[..]does not name an image[..]");
    registry.stop();
    env.run(&["run", "-p", "app", "--pull", "newer", "x"]).is(
        0,
        "two x\n",
        "mayfly: cannot pull [..]: [..] cannot be reached; the image that is here is used\n[..]",
    );
}

#[test]
fn a_profile_can_name_its_image() {
    let (mut env, registry) = environment();
    let reference = registry.push(&archive(&named("one")), "team/app:v1");
    let text = |keys: &str| format!("[profiles.web]\nimage = {reference:?}\nmem_mib = 300\n{keys}");
    env.profiles(&text(""));
    env.run(&["run", "-q", "-p", "web", "--pull", "never"]).fails(125, "mayfly: no image of [..]");
    env.run(&["run", "-q", "-p", "web", "x"]).is(0, "one x\n", "");
    let id = env.run(&["create", "-p", "web"]).line();
    assert_eq!(env.status(&id)["mem_mib"], 300);
    env.rm(&id);
    // The profile's own keys come first, and the image's directory is not a profile that somebody pulled.
    env.profiles(&text("entrypoint = [\"/bin/echo\", \"own\"]\n"));
    env.run(&["run", "-q", "-p", "web", "x"]).is(0, "own x\n", "");
    env.run(&["run", "-q", "--image", &reference]).is(0, "one\n", "");
    assert_eq!(listed(&env, "app-v1")["reference"], json!(reference));

    registry.push(&archive(&named("two")), "team/app:v1");
    env.run(&["image", "build", "web"]).is(0, "web\n", "");
    assert_eq!(name_in(&env, "web"), "one");
    env.run(&["image", "build", "-q", "--force", "web"]).is(0, "", "");
    assert_eq!(name_in(&env, "web"), "two");
    env.run(&["image", "pull", "-q", &reference, "web", "--mem", "1G"]).fails(
        2,
        "mayfly: profile \"web\" is in [..]profiles.toml:1\nhint: change its keys there\n",
    );
    env.run(&["image", "pull", "-q", "other", "web"])
        .fails(4, "mayfly: \"web\" is already another profile\n[..]");

    // Another image in the file: the old one's command does not apply any more.
    let three = registry.push(&archive(&named("three")), "team/other");
    env.profiles(&format!("[profiles.web]\nimage = {three:?}\n"));
    env.run(&["run", "-q", "-p", "web"]).is(0, "three\n", "");
    env.run(&["image", "prune", "--all", "--dry-run"]).is(
        0,
        "debian-base\nweb\n[..]",
        "mayfly: would free [..]",
    );
}

#[test]
fn another_profile_of_the_same_name_is_never_replaced_by_chance() {
    let (mut env, registry) = environment();
    let one = registry.push(&archive(&named("one")), "a/app");
    let two = registry.push(&archive(&named("two")), "b/app");
    let taken = registry.push(&archive(&named("three")), "debian-base");
    env.run(&["image", "pull", "-q", &one]).prints("app\n");
    for reference in [&two, &taken] {
        env.run(&["image", "pull", "-q", reference]).fails(
            4,
            "mayfly: \"[..]\" is already another profile\nhint: choose a name: mayfly image pull [..] NAME\n",
        );
    }
    env.run(&["image", "pull", "-q", &two, "other"]).prints("other\n");
    env.run(&["run", "-q", "--image", &two]).prints("two\n");
    assert_eq!((name_in(&env, "app"), name_in(&env, "other")), ("one".into(), "two".into()));
    // Neither is an imported image, even if a file gives its profile another one.
    let imported = env.root().join("kept.tar");
    fs::write(&imported, archive(&named("kept"))).unwrap();
    env.run(&["image", "import", "-q", imported.to_str().unwrap()]).prints("kept\n");
    env.run(&["image", "pull", "-q", &one, "kept"]).fails(4, "mayfly: \"kept\" is already [..]");
    env.profiles(&format!("[profiles.kept]\nimage = {one:?}\n"));
    env.run(&["run", "-p", "kept"]).fails(125, "mayfly: the image of \"kept\" was imported, [..]");
    assert_eq!(name_in(&env, "kept"), "kept");
    // A name that the user gives means the profile.
    env.run(&["image", "pull", "-q", &one, "other"]).prints("other\n");
    assert_eq!(name_in(&env, "other"), "one");
}
