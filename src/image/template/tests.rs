//! Templates without VMs: what is claimed, by whom, and what is refused.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::*;
use crate::model::{Kind, Refusal};

fn shape(text: &str) -> Shape {
    Shape::new("debian-base", text.to_owned())
}

fn templates(directory: &tempfile::TempDir) -> Templates {
    Templates::open(directory.path()).unwrap()
}

fn make(templates: &Templates, shape: &Shape) -> Option<String> {
    let Claim::Make(draft) = templates.claim(shape).unwrap() else { panic!("there is one") };
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
    draft.complete(1, 1, "7.2.22".into()).unwrap();
    why
}

#[test]
fn a_template_is_made_once_and_then_ready() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    assert_eq!(make(&templates, &shape), None);
    let Claim::Ready(template) = templates.claim(&shape).unwrap() else { panic!("not ready") };
    assert_eq!(fs::read(template.files().state).unwrap(), b"registers");
    assert!(matches!(templates.claim(&shape).unwrap(), Claim::Ready(_)));
    let listed = templates.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].info.is_some() && listed[0].bytes > 0 && listed[0].name == shape.name());
}

#[test]
fn who_comes_second_waits_and_an_unfinished_one_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    let Claim::Make(draft) = templates.claim(&shape).unwrap() else { panic!("there is one") };
    assert!(matches!(templates.claim(&shape).unwrap(), Claim::Wait));
    assert!(templates.sweep(false).unwrap().is_empty());
    drop(draft);
    assert!(templates.list().unwrap().is_empty());
    assert!(matches!(templates.claim(&shape).unwrap(), Claim::Make(_)));
}

#[test]
fn memory_for_which_there_is_no_room_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let templates = templates(&directory);
    let Claim::Make(draft) = templates.claim(&shape("one")).unwrap() else {
        panic!("there is one")
    };
    let error = draft.prepare(u32::MAX, directory.path()).unwrap_err();
    assert_eq!(error.downcast_ref::<Refusal>().unwrap().kind, Kind::Host);
    assert!(!draft.files().memory.exists());
}

#[test]
fn what_a_killed_command_left_is_swept() {
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
fn a_byte_changed_anywhere_is_refused_and_the_template_made_anew() {
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
        assert!(matches!(templates.claim(&shape).unwrap(), Claim::Ready(_)));
    }
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
fn one_that_is_used_is_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let (templates, shape) = (templates(&directory), shape("one"));
    make(&templates, &shape);
    let claim = templates.claim(&shape).unwrap();
    assert!(templates.remove(&shape.name()).is_err());
    drop(claim);
    assert!(templates.unused(Duration::from_secs(3600)).unwrap().is_empty());
    assert_eq!(templates.unused(Duration::ZERO).unwrap(), [shape.name()]);
    assert!(templates.remove(&shape.name()).unwrap());
    assert!(!templates.remove(&shape.name()).unwrap());
    let root = directory.path().join("templates");
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}
