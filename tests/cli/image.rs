//! `mayfly image`, without building images.

use crate::support::environment::Environment;

#[test]
fn where_there_are_none_none_are_listed_and_nothing_is_made() {
    let env = Environment::mock();
    env.run(&["image", "ls"]).prints("PROFILE  MADE OF  KERNEL  ON DISK  IMAGE\n");
    env.run(&["image", "ls", "--json"]).prints("[]\n");
    assert!(!env.root().join("artifacts").exists() && !env.state().exists());
}

#[test]
fn a_missing_image_cannot_be_deleted_unless_forced() {
    let env = Environment::mock();
    env.run(&["image", "rm", "debian-base"]).fails(
        3,
        "mayfly: profile \"debian-base\" has no image\nhint: 'mayfly image ls' lists all images\n",
    );
    env.run(&["image", "rm", "-f", "debian-base"]).prints("debian-base\n");
}

#[test]
fn an_unknown_profile_is_refused_before_anything_is_built() {
    let env = Environment::mock();
    env.run(&["image", "build", "nope"]).fails(3, "mayfly: no profile \"nope\"\nhint: [..]\n");
    env.run(&["image", "build", "../up"]).fails(3, "mayfly: no profile \"../up\"\n[..]");
    for name in ["../state", "/etc", "", ".."] {
        let answer = env.run(&["image", "rm", "-f", name]);
        assert!(answer.stdout.is_empty() && [2, 3].contains(&answer.code()), "{name}: {answer}");
    }
}

#[test]
fn a_built_image_is_listed_and_guarded_by_the_vms_that_need_it() {
    let env = Environment::qemu();
    let list = env.run(&["image", "ls", "--json"]).json();
    let image =
        list.as_array().unwrap().iter().find(|image| image["profile"] == "debian-base").unwrap();
    for (field, is_right) in [
        ("image_digest", image["image_digest"].as_str().is_some_and(|id| id.len() == 64)),
        ("suite", image["recipe"]["suite"] == "bookworm"),
        ("kernel_release", image["kernel_release"].is_string()),
        ("created_at", image["created_at"].is_f64()),
        ("bytes", image["bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20)),
    ] {
        assert!(is_right, "{field} of {image}");
    }
    env.run(&["image", "ls"]).is(0, "PROFILE [..]\n[..]debian-base [..]", "");
    let profiles = env.run(&["profiles", "--json"]).json();
    assert_eq!(profiles[0]["image_built"], true);
    // Building an image that is up to date prints its name.
    env.run(&["image", "build"]).is(0, "[..]\n", "");
    let vm = env.run(&["create", "--json"]).json();
    assert!(vm["metadata"]["kernel_image"].as_str().unwrap().ends_with("vmlinux"), "{vm}");
    assert!(vm["metadata"]["rootfs_image"].as_str().unwrap().ends_with("rootfs.ext4"), "{vm}");
    let id = vm["vm_id"].as_str().unwrap();
    env.run(&["image", "rm", "debian-base"]).fails(4, "mayfly: deleting the image of \"debian-base\" would strand its VMs: [..]\nhint: delete them first: mayfly rm [..]\n");
    env.run(&["image", "build", "--force"]).fails(4, "mayfly: rebuilding the image of[..]");
    env.rm(id);
}
