//! Templates without VMs: claims, and what is refused.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;

use super::*;
use crate::image::{ImageInfo, InitrdAgent};
use crate::model::{Refusal, RefusalKind, VmManifest};

fn shape(text: &str) -> TemplateShape {
    let image = image("debian-base", "sha256:4567");
    TemplateShape::new(&VmManifest::sample(), &image, text.to_owned())
}

pub fn image(profile: &str, agent: &str) -> ImageInfo {
    let recipe = r#"{"suite":"bookworm","packages":[],"root_mib":1,"disk_mib":1}"#;
    ImageInfo {
        schema: 1,
        profile: profile.parse().unwrap(),
        recipe: serde_json::from_str(recipe).unwrap(),
        pulled: None,
        kernel_release: "6.1".into(),
        built_at: 0.0,
        agent: InitrdAgent { version: "0.1.0".into(), digest: agent.into() },
        files: Default::default(),
    }
}

fn templates(directory: &tempfile::TempDir) -> TemplateStore {
    TemplateStore::open(directory.path()).unwrap()
}

fn make(templates: &TemplateStore, shape: &TemplateShape) -> Option<String> {
    let TemplateClaim::Make(draft) = templates.claim(shape).unwrap() else {
        panic!("there is one")
    };
    let why = draft.why().map(str::to_owned);
    let seed = tempfile::NamedTempFile::new().unwrap();
    fs::write(seed.path(), "a disk").unwrap();
    draft.prepare(1, seed.path()).unwrap();
    let files = draft.files();
    let memory = fs::OpenOptions::new().write(true).open(&files.memory).unwrap();
    memory.write_all_at(b"what the guest knows", 5000).unwrap();
    fs::write(&files.state, "registers").unwrap();
    // Longer than a tick of the clock that stamps files.
    std::thread::sleep(Duration::from_millis(25));
    draft.complete("7.2.22".into()).unwrap();
    why
}

#[test]
fn a_template_is_made_once_and_then_ready() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    assert_eq!(make(&templates, &shape), None);
    let TemplateClaim::Ready(template) = templates.claim(&shape).unwrap() else {
        panic!("not ready")
    };
    assert_eq!(fs::read(template.files().state).unwrap(), b"registers");
    assert!(matches!(templates.claim(&shape).unwrap(), TemplateClaim::Ready(_)));
    let listed = templates.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].info.is_some() && listed[0].bytes > 0 && listed[0].name == shape.name());
}

#[test]
fn a_second_command_waits_and_an_unfinished_template_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    let TemplateClaim::Make(draft) = templates.claim(&shape).unwrap() else {
        panic!("there is one")
    };
    assert!(matches!(templates.claim(&shape).unwrap(), TemplateClaim::Wait));
    assert!(templates.sweep(false).unwrap().is_empty());
    drop(draft);
    assert!(templates.list().unwrap().is_empty());
    assert!(matches!(templates.claim(&shape).unwrap(), TemplateClaim::Make(_)));
}

#[test]
fn memory_that_does_not_fit_the_disk_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let templates = templates(&directory);
    let TemplateClaim::Make(draft) = templates.claim(&shape("one")).unwrap() else {
        panic!("there is one")
    };
    let error = draft.prepare(u32::MAX, directory.path()).unwrap_err();
    assert_eq!(Refusal::find(&error).unwrap().kind, RefusalKind::Host);
    assert!(!draft.files().memory.exists());
}

#[test]
fn a_sweep_deletes_what_a_killed_command_left() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    let root = directory.path().join("templates");
    let left = root.join(format!(".making-{}-12345678", shape.name()));
    fs::create_dir(&left).unwrap();
    assert_eq!(templates.sweep(true).unwrap(), std::slice::from_ref(&left));
    assert_eq!(templates.sweep(false).unwrap(), std::slice::from_ref(&left));
    assert!(!left.exists());
}

#[test]
fn one_changed_byte_anywhere_is_noticed_and_the_template_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    make(&templates, &shape);
    for name in ["memory", "state", "disk.img", "template.json"] {
        let path = directory.path().join("templates").join(shape.name()).join(name);
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let at = file.metadata().unwrap().len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let why = make(&templates, &shape).expect("the damage was not noticed");
        assert!(why.contains(name), "{why}");
        assert!(matches!(templates.claim(&shape).unwrap(), TemplateClaim::Ready(_)));
    }
}

#[test]
fn what_another_user_could_have_written_is_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    let place = directory.path().join("templates").join(shape.name());
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let names = ["", "template.json", "verified.json", "memory", "state", "disk.img", "used"];
    make(&templates, &shape);
    for name in names {
        // An empty name is the directory's.
        let path = if name.is_empty() { place.clone() } else { place.join(name) };
        if name != "memory" {
            set_mode(&path, 0o757);
            let why = make(&templates, &shape).expect("anyone can write it");
            assert!(why.contains("can be written by others"), "{name}: {why}");
        }
        let real = directory.path().join("real");
        fs::rename(&path, &real).unwrap();
        symlink(&real, &path).unwrap();
        let why = make(&templates, &shape).expect("it is a link");
        assert!(why.contains("is a symbolic link"), "{name}: {why}");
        assert!(real.exists(), "{name}: the link was followed");
        let _ = fs::remove_dir_all(&real).or_else(|_| fs::remove_file(&real));
        if geteuid().is_root() {
            chown(&path, Some(65_534), None).unwrap();
            let why = make(&templates, &shape).expect("it belongs to another user");
            assert!(why.contains("belongs to user 65534"), "{name}: {why}");
        }
        assert!(matches!(templates.claim(&shape).unwrap(), TemplateClaim::Ready(_)));
    }
    // A VMM that runs as another user must open the memory, and no other user can enter the directory.
    set_mode(&place.join("memory"), 0o666);
    assert_eq!(
        templates.list().unwrap()[0].info.as_ref().map(|info| &info.name),
        Some(&shape.name().to_owned())
    );
    set_mode(&place, 0o755);
    assert!(make(&templates, &shape).unwrap().contains("memory can be written by others"));
}

#[test]
fn a_file_that_is_gone_or_another_shape_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, one, two) = (templates(&directory), shape("one"), shape("two"));
    make(&templates, &one);
    let root = directory.path().join("templates");
    fs::rename(root.join(one.name()), root.join(two.name())).unwrap();
    assert!(make(&templates, &two).unwrap().contains("another shape"));
    fs::remove_file(root.join(two.name()).join("state")).unwrap();
    assert!(make(&templates, &two).unwrap().contains("state"));
}

#[test]
fn a_template_in_use_is_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    make(&templates, &shape);
    let claim = templates.claim(&shape).unwrap();
    assert!(templates.remove(shape.name()).is_err());
    drop(claim);
    assert!(templates.remove(shape.name()).unwrap());
    assert!(!templates.remove(shape.name()).unwrap());
    let root = directory.path().join("templates");
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}

#[test]
fn a_template_that_is_being_made_is_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    let TemplateClaim::Make(draft) = templates.claim(&shape).unwrap() else {
        panic!("there is one")
    };
    assert!(templates.remove(shape.name()).is_err());
    drop(draft);
    assert!(!templates.remove(shape.name()).unwrap());
    for name in ["", ".", "..", "../templates", "a/b", ".making-x-12345678"] {
        assert!(!templates.remove(name).unwrap(), "{name}");
    }
    assert_eq!(fs::read_dir(directory.path().join("templates")).unwrap().count(), 0);
}

#[test]
fn useless_templates_are_pruned_unless_they_are_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, one, two) = (templates(&directory), shape("one"), shape("two"));
    make(&templates, &one);
    make(&templates, &two);
    let name = one.name();
    let is_one = |listed: &ListedTemplate| listed.name == name;
    let names = |pruned: Vec<ListedTemplate>| -> Vec<String> {
        pruned.into_iter().map(|listed| listed.name).collect()
    };
    assert_eq!(names(templates.prune(is_one, true).unwrap()), [one.name()]);
    let claim = templates.claim(&one).unwrap();
    for dry_run in [true, false] {
        assert!(templates.prune(is_one, dry_run).unwrap().is_empty());
    }
    drop(claim);
    // It is used after the first look.
    let looks = std::cell::Cell::new(0);
    let at_first = |listed: &ListedTemplate| is_one(listed) && looks.replace(looks.get() + 1) == 0;
    assert!(templates.prune(at_first, false).unwrap().is_empty());
    assert_eq!(names(templates.prune(is_one, false).unwrap()), [one.name()]);
    let left: Vec<String> = templates.list().unwrap().into_iter().map(|l| l.name).collect();
    assert_eq!(left, [two.name()]);
}

#[test]
fn damaged_templates_are_listed_as_damaged_and_other_files_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    make(&templates, &shape);
    let root = directory.path().join("templates");
    fs::write(root.join("a-file"), "").unwrap();
    let is_good =
        || matches!(&templates.list().unwrap()[..], [ListedTemplate { info: Some(_), .. }]);
    assert!(is_good());
    let disk = root.join(shape.name()).join("disk.img");
    let whole = fs::read(&disk).unwrap();
    fs::write(&disk, &whole[1..]).unwrap();
    assert!(!is_good());
    fs::write(&disk, &whole).unwrap();
    assert!(is_good());
    fs::write(root.join(shape.name()).join("template.json"), "{").unwrap();
    assert!(!is_good());
}

#[test]
fn a_template_is_of_one_image_with_one_agent() {
    let own = image("debian-base", "sha256:4567");
    let mut info = shape("one").description;
    assert!(info.is_of(&own));
    assert!(!info.is_of(&image("debian-git", "sha256:4567")));
    assert!(!info.is_of(&image("debian-base", "sha256:89ab")));
    info.image = "another".into();
    assert!(!info.is_of(&own));
}

/// The cache of digests is only a reason not to read a file.
#[test]
fn a_wrong_cache_is_a_reason_to_read_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    make(&templates, &shape);
    let path = directory.path().join("templates").join(shape.name()).join("verified.json");
    let right = fs::read_to_string(&path).unwrap();
    for (at, digit) in right.char_indices().filter(|(_, digit)| digit.is_ascii_digit()) {
        let mut wrong = right.clone();
        wrong.replace_range(at..=at, if digit == '9' { "0" } else { "9" });
        fs::write(&path, &wrong).unwrap();
        let claim = templates.claim(&shape).unwrap();
        assert!(matches!(claim, TemplateClaim::Ready(_)), "character {at} of {wrong}");
    }
}
