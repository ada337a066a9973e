//! Commands that use, build, delete and sweep at the same time.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::fixture::{FakeBuilder, StoreFixture, image_name, profile, refusal};
use crate::host::tool::ToolInterrupted;
use crate::image::{ProgressLines, ProgressSink};
use crate::model::RefusalKind;

#[test]
fn builders_at_once_make_one_image_and_the_later_ones_say_that_they_wait() {
    let fixture = StoreFixture::with(FakeBuilder { slow: true, ..FakeBuilder::default() });
    let notes: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut lines = ProgressLines::default();
                    let image =
                        fixture.store().ensure(&profile("bookworm"), &fixture.agent(), &mut lines);
                    image.unwrap().verify().unwrap();
                    lines.0.concat()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(fixture.builds(), 1);
    let waited = notes.iter().filter(|note| note.contains("waiting: the building")).count();
    assert_eq!(waited, 5, "{notes:?}");
    assert_eq!(fixture.names(), ["p"]);
}

#[test]
fn readers_see_one_whole_image_while_it_is_replaced_again_and_again() {
    let fixture = StoreFixture::new();
    drop(fixture.ensure().unwrap());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let store = fixture.store();
                while !done.load(Ordering::SeqCst) {
                    let image =
                        store.find(&image_name()).unwrap().expect("there is always an image");
                    image.verify().unwrap();
                    assert_eq!(store.list().unwrap().len(), 1);
                }
            });
        }
        for n in 0..6 {
            if n % 3 == 0 {
                fixture.set_agent(&format!("agent {n}"));
                drop(fixture.ensure().unwrap());
            } else {
                drop(fixture.build("bookworm").unwrap());
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(fixture.names(), ["p"]);
}

#[test]
fn an_image_in_use_stays_while_a_new_one_is_built() {
    let fixture = StoreFixture::new();
    let held = fixture.ensure().unwrap();
    let id = held.id();
    thread::scope(|scope| {
        let builder = scope.spawn(|| fixture.build("bookworm").unwrap().id());
        while fixture.builds() < 2 {
            thread::sleep(Duration::from_millis(5));
        }
        // It is built, and waits for the lock; other commands can still use the old one.
        assert_eq!(fixture.store().find(&image_name()).unwrap().unwrap().id(), id);
        held.verify().unwrap();
        drop(held);
        assert_ne!(builder.join().unwrap(), id);
    });
}

#[test]
fn a_build_that_fails_or_is_interrupted_leaves_what_was_there() {
    struct Impatient;
    impl ProgressSink for Impatient {
        fn phase(&mut self, _: &str, _: usize, _: usize) {}
        fn detail(&mut self, _: &str) {}
        fn note(&mut self, _: &str) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let fixture = StoreFixture::new();
    fixture.fake.fails.store(true, Ordering::SeqCst);
    assert!(fixture.ensure().unwrap_err().to_string().contains("on fire"));
    assert!(fixture.names().is_empty());
    let store = fixture.store();
    let error = store.ensure(&profile("bookworm"), &fixture.agent(), &mut Impatient).unwrap_err();
    assert!(error.is::<ToolInterrupted>());
    assert!(fixture.names().is_empty());

    fixture.fake.fails.store(false, Ordering::SeqCst);
    let id = fixture.ensure().unwrap().id();
    fixture.fake.fails.store(true, Ordering::SeqCst);
    assert!(fixture.build("bookworm").is_err());
    assert_eq!(fixture.names(), ["p"]);
    let image = fixture.ensure().unwrap();
    image.verify().unwrap();
    assert_eq!(image.id(), id);
}

#[test]
fn a_sweep_deletes_what_killed_builds_left_and_nothing_else() {
    let fixture = StoreFixture::new();
    drop(fixture.ensure().unwrap());
    let store = fixture.store();
    let left = fixture.root().join(".build-q-999999-0123abcd");
    fs::create_dir_all(left.join("work/tree")).unwrap();
    for stranger in [".build-notes", "templates", ".cache"] {
        fs::create_dir(fixture.root().join(stranger)).unwrap();
    }
    // A living build holds its lock.
    let lock = store.artifacts.try_lock_build(&"q".parse().unwrap()).unwrap().unwrap();
    assert!(store.sweep(false).unwrap().is_empty());
    drop(lock);
    assert_eq!(store.sweep(true).unwrap(), std::slice::from_ref(&left));
    assert_eq!(store.sweep(false).unwrap(), [left]);
    assert!(store.sweep(false).unwrap().is_empty());
    assert_eq!(fixture.names(), [".build-notes", ".cache", "p", "templates"]);
}

#[test]
fn an_image_is_deleted_as_a_whole_but_not_while_it_is_built() {
    let fixture = StoreFixture::new();
    let store = fixture.store();
    assert!(!store.remove(&image_name()).unwrap());
    drop(fixture.ensure().unwrap());
    assert!(store.usage(&image_name()).unwrap().bytes > 0);
    let lock = store.artifacts.try_lock_build(&image_name()).unwrap().unwrap();
    assert_eq!(refusal(&store.remove(&image_name()).unwrap_err()).kind, RefusalKind::Busy);
    drop(lock);
    assert!(store.remove(&image_name()).unwrap());
    assert!(fixture.names().is_empty());
    assert!(store.info(&image_name()).unwrap().is_none());
}
