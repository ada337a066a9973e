//! What is built and when, and what is refused.

use std::fs;
use std::thread;
use std::time::Duration;

use super::fixture::{StoreFixture, image_name, profile, refusal};
use crate::host::seal::seal;
use crate::image::info::{DISK, INFO, INITRD, KERNEL, MODULES, ROOTFS};
use crate::image::{ImageVerification, SilentProgress};
use crate::model::{ImageRecipe, RefusalKind};

#[test]
fn an_image_is_built_once_and_again_when_its_recipe_changes() {
    let fixture = StoreFixture::new();
    assert!(fixture.store().find(&image_name()).unwrap().is_none());
    assert!(fixture.store().list().unwrap().is_empty());
    let first = fixture.ensure().unwrap();
    assert_eq!(first.verify().unwrap(), ImageVerification::Unchanged);
    let id = first.id();
    drop(first);
    assert_eq!(fixture.ensure().unwrap().id(), id);
    assert_eq!(fixture.builds(), 1);
    assert_eq!(fixture.names(), ["p"]);
    assert_eq!(fixture.store().list().unwrap()[0].kernel_release, "6.1.0");

    let store = fixture.store();
    let other = store.ensure(&profile("trixie"), &fixture.agent(), &mut SilentProgress).unwrap();
    assert_ne!(other.id(), id);
    assert_eq!(fixture.builds(), 2);
    assert_eq!(fixture.names(), ["p"]);
    drop(other);
    drop(fixture.build("trixie").unwrap());
    assert_eq!(fixture.builds(), 3);
}

/// VMs that were stopped on the image could not start after a rebuild: their disks are layers over it.
#[test]
fn an_image_from_before_recipes_named_kernels_stays_as_it_is() {
    let fixture = StoreFixture::new();
    let image = fixture.ensure().unwrap();
    let (id, path) = (image.id(), image.dir().join(INFO));
    drop(image);
    let mut old: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(old["recipe"].as_object_mut().unwrap().remove("kernel").is_some());
    assert!(old.as_object_mut().unwrap().remove("seal").is_some());
    fs::write(&path, old.to_string()).unwrap();

    let image = fixture.ensure().unwrap();
    assert_eq!((image.id(), fixture.builds()), (id, 1));
    image.verify().unwrap();
    drop(image);
    let mut full = profile("bookworm");
    let ImageRecipe::Debian(recipe) = &mut full.recipe else { panic!("it is of packages") };
    recipe.kernel = "linux-image-amd64".into();
    drop(fixture.store().ensure(&full, &fixture.agent(), &mut SilentProgress).unwrap());
    assert_eq!(fixture.builds(), 2);
}

#[test]
fn another_agent_only_changes_the_initrd() {
    let fixture = StoreFixture::new();
    let id = fixture.ensure().unwrap().id();
    fixture.set_agent("two, and longer");
    let image = fixture.ensure().unwrap();
    assert_eq!((image.id(), fixture.builds()), (id, 1));
    image.verify().unwrap();
    let initrd = fs::read(image.boot_files().initrd).unwrap();
    assert!(initrd.starts_with(&fs::read(image.dir().join(MODULES)).unwrap()));
    assert!(initrd.windows(15).any(|window| window == b"two, and longer"));
    assert!(!image.dir().join("initrd.img.new").exists());

    drop(image);
    fs::write(fixture.agent(), "#!/bin/sh").unwrap();
    assert_eq!(refusal(&fixture.ensure().unwrap_err()).kind, RefusalKind::Host);
    fs::remove_file(fixture.agent()).unwrap();
    assert_eq!(refusal(&fixture.ensure().unwrap_err()).kind, RefusalKind::Host);
}

#[test]
fn a_repack_that_was_killed_is_finished_or_undone() {
    // Killed before image.json described the new initrd, which was half written.
    let fixture = StoreFixture::new();
    let image = fixture.ensure().unwrap();
    let new = image.dir().join("initrd.img.new");
    drop(image);
    fs::write(&new, "ha").unwrap();
    let image = fixture.store().find(&image_name()).unwrap().unwrap();
    assert!(!new.exists());
    image.verify().unwrap();

    // Killed after that, before the rename: what image.json describes is not in place yet.
    let old = fs::read(image.boot_files().initrd).unwrap();
    let dir = image.dir().to_owned();
    drop(image);
    fixture.set_agent("two");
    drop(fixture.ensure().unwrap());
    fs::rename(dir.join(INITRD), &new).unwrap();
    fs::write(dir.join(INITRD), old).unwrap();
    let image = fixture.ensure().unwrap();
    assert!(!new.exists());
    image.verify().unwrap();
    assert_eq!(fixture.builds(), 1);
}

#[test]
fn one_changed_byte_anywhere_is_refused() {
    for name in [KERNEL, INITRD, ROOTFS, DISK] {
        let fixture = StoreFixture::new();
        let image = fixture.ensure().unwrap();
        let path = image.dir().join(name);
        let mut content = fs::read(&path).unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        *content.last_mut().unwrap() ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, &content).unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_modified(before).unwrap();
        let error = image.verify().unwrap_err();
        let refusal = refusal(&error);
        assert_eq!(refusal.kind, RefusalKind::Host);
        assert!(refusal.message.contains(name), "{}", refusal.message);
        assert!(refusal.hint.as_ref().unwrap().contains("--force p"));

        // With the right content again, it is read once and then trusted.
        *content.last_mut().unwrap() ^= 1;
        fs::write(&path, &content).unwrap();
        thread::sleep(Duration::from_millis(25));
        assert_eq!(image.verify().unwrap(), ImageVerification::Read);
        assert_eq!(image.verify().unwrap(), ImageVerification::Unchanged);
        fs::remove_file(&path).unwrap();
        assert!(image.verify().is_err());
    }
}

#[test]
fn tampered_modules_do_not_get_into_a_new_initrd() {
    let fixture = StoreFixture::new();
    let path = fixture.ensure().unwrap().dir().join(MODULES);
    fs::write(path, "something else").unwrap();
    fixture.set_agent("two");
    assert!(refusal(&fixture.ensure().unwrap_err()).message.contains(MODULES));
}

#[test]
fn a_damaged_description_is_an_error_until_the_image_is_rebuilt() {
    let fixture = StoreFixture::new();
    let path = fixture.ensure().unwrap().dir().join(INFO);
    let text = fs::read_to_string(&path).unwrap();
    let changed = [
        ("\"profile\"", "\"profil\""),
        ("\"schema\": 1", "\"schema\": 2"),
        ("built_at\": 1", "built_at\": 2"),
        ("\"seal\"", "\"real\""),
    ]
    .map(|(from, to)| text.replacen(from, to, 1));
    assert!(changed.iter().all(|changed| *changed != text));
    let cut = ["", "{}", &text[..text.len() / 2]].map(str::to_owned);
    for bad in cut.iter().chain(&changed) {
        fs::write(&path, bad).unwrap();
        assert_eq!(refusal(&fixture.ensure().unwrap_err()).kind, RefusalKind::Host);
        assert_eq!(
            refusal(&fixture.store().find(&image_name()).unwrap_err()).kind,
            RefusalKind::Host
        );
        assert!(fixture.store().list().unwrap().is_empty());
    }
    drop(fixture.build("bookworm").unwrap());
    fixture.ensure().unwrap().verify().unwrap();

    // An image of another version is rebuilt.
    fs::write(&path, seal(br#"{"schema":999}"#.to_vec())).unwrap();
    assert!(fixture.store().find(&image_name()).unwrap().is_none());
    fixture.ensure().unwrap();
    assert_eq!(fixture.builds(), 3);
}
