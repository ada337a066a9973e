use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::bail;
use tempfile::TempDir;

use super::*;
use crate::host::tool::ToolInterrupted;
use crate::image::handle::ImageVerification;
use crate::image::info::{DISK, INFO, INITRD, KERNEL, MODULES, ROOTFS};
use crate::image::progress::ProgressLines;
use crate::model::{CommandDefaults, DebianRecipe, ImageRecipe, Isolation, RefusalKind};

/// Writes small files instead of running mmdebstrap, and counts how often.
#[derive(Clone, Default)]
struct Fake {
    builds: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
    slow: bool,
}

impl ImageBuilder for Fake {
    fn build(
        &self,
        recipe: &DebianRecipe,
        work: &Path,
        into: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<String> {
        let count = self.builds.fetch_add(1, Ordering::SeqCst);
        progress.phase("faking", 1, 4);
        fs::write(work.join("junk"), "")?;
        for name in [KERNEL, MODULES, ROOTFS, DISK] {
            fs::write(into.join(name), format!("{name} {} {count}", recipe.suite))?;
        }
        if self.slow {
            thread::sleep(Duration::from_millis(500));
        }
        if progress.cancelled() {
            return Err(ToolInterrupted.into());
        }
        if self.fails.load(Ordering::SeqCst) {
            bail!("the mirror is on fire");
        }
        Ok("6.1.0".into())
    }

    fn delete(&self, directory: &Path) -> Result<()> {
        crate::host::directory::remove(directory)
    }
}

/// An artifacts directory and an agent beside it.
struct World {
    dir: TempDir,
    fake: Fake,
}

impl World {
    fn new() -> World {
        World::with(Fake::default())
    }

    fn with(fake: Fake) -> World {
        let world = World { dir: tempfile::tempdir().unwrap(), fake };
        world.set_agent("one");
        world
    }

    /// A program without program headers, and with that after it.
    fn set_agent(&self, content: &str) {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf.extend(content.as_bytes());
        fs::write(self.agent(), elf).unwrap();
    }

    fn agent(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("artifacts")
    }

    fn store(&self) -> ImageStore {
        ImageStore::with_builder(&self.root(), Box::new(self.fake.clone())).unwrap()
    }

    fn ensure(&self) -> Result<LockedImage> {
        self.store().ensure(&profile("bookworm"), &self.agent(), &mut SilentProgress)
    }

    fn builds(&self) -> usize {
        self.fake.builds.load(Ordering::SeqCst)
    }

    /// What is in the artifacts directory, without the locks.
    fn names(&self) -> Vec<String> {
        let names = directory::names(&self.root()).unwrap();
        let is_lock =
            |name: &String| [".build", ".turn", ".use"].iter().any(|end| name.ends_with(end));
        names.into_iter().filter(|name| !is_lock(name)).collect()
    }
}

/// The name of the one image that there is.
fn p() -> ProfileName {
    "p".parse().unwrap()
}

fn profile(suite: &str) -> Profile {
    Profile {
        name: p(),
        description: String::new(),
        recipe: ImageRecipe::Debian(DebianRecipe {
            suite: suite.into(),
            mirror: None,
            kernel: "linux-image-cloud-amd64".into(),
            packages: vec![],
            root_mib: 1,
            disk_mib: 1,
        }),
        vcpu_count: 1,
        mem_mib: 256,
        ttl_seconds: 60,
        keep: false,
        require: Isolation::None,
        nested: false,
        command: CommandDefaults::default(),
    }
}

fn refusal(error: &anyhow::Error) -> &Refusal {
    error.downcast_ref().unwrap_or_else(|| panic!("not a refusal: {error:#}"))
}

#[test]
fn an_image_is_built_once_and_again_when_its_recipe_changes() {
    let world = World::new();
    assert!(world.store().find(&p()).unwrap().is_none());
    assert!(world.store().list().unwrap().is_empty());
    let first = world.ensure().unwrap();
    assert_eq!(first.verify().unwrap(), ImageVerification::Unchanged);
    let id = first.id();
    drop(first);
    assert_eq!(world.ensure().unwrap().id(), id);
    assert_eq!(world.builds(), 1);
    assert_eq!(world.names(), ["p"]);
    assert_eq!(world.store().list().unwrap()[0].kernel_release, "6.1.0");

    let store = world.store();
    let other = store.ensure(&profile("trixie"), &world.agent(), &mut SilentProgress).unwrap();
    assert_ne!(other.id(), id);
    assert_eq!(world.builds(), 2);
    assert_eq!(world.names(), ["p"]);
    drop(other);
    drop(store.build(&profile("trixie"), &world.agent(), &mut SilentProgress).unwrap());
    assert_eq!(world.builds(), 3);
}

/// A rebuild would strand the VMs that were stopped on the image: their disks are laid over it.
#[test]
fn an_image_from_before_recipes_named_kernels_stays_as_it_is() {
    let world = World::new();
    let image = world.ensure().unwrap();
    let (id, path) = (image.id(), image.dir().join(INFO));
    drop(image);
    let mut old: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(old["recipe"].as_object_mut().unwrap().remove("kernel").is_some());
    fs::write(&path, old.to_string()).unwrap();

    let image = world.ensure().unwrap();
    assert_eq!((image.id(), world.builds()), (id, 1));
    image.verify().unwrap();
    drop(image);
    let mut full = profile("bookworm");
    let ImageRecipe::Debian(recipe) = &mut full.recipe else { panic!("it is of packages") };
    recipe.kernel = "linux-image-amd64".into();
    drop(world.store().ensure(&full, &world.agent(), &mut SilentProgress).unwrap());
    assert_eq!(world.builds(), 2);
}

#[test]
fn another_agent_only_changes_the_initrd() {
    let world = World::new();
    let id = world.ensure().unwrap().id();
    world.set_agent("two, and longer");
    let image = world.ensure().unwrap();
    assert_eq!((image.id(), world.builds()), (id, 1));
    image.verify().unwrap();
    let initrd = fs::read(image.initrd()).unwrap();
    assert!(initrd.starts_with(&fs::read(image.dir().join(MODULES)).unwrap()));
    assert!(initrd.windows(15).any(|window| window == b"two, and longer"));
    assert!(!image.dir().join("initrd.img.new").exists());

    drop(image);
    fs::write(world.agent(), "#!/bin/sh").unwrap();
    assert_eq!(refusal(&world.ensure().unwrap_err()).kind, RefusalKind::Host);
    fs::remove_file(world.agent()).unwrap();
    assert_eq!(refusal(&world.ensure().unwrap_err()).kind, RefusalKind::Host);
}

#[test]
fn a_repack_that_was_killed_is_finished_or_undone() {
    // Killed before image.json spoke of the new initrd, while it was half written.
    let world = World::new();
    let image = world.ensure().unwrap();
    let new = image.dir().join("initrd.img.new");
    drop(image);
    fs::write(&new, "ha").unwrap();
    let image = world.store().find(&p()).unwrap().unwrap();
    assert!(!new.exists());
    image.verify().unwrap();

    // Killed after that, before the rename: what image.json speaks of is not in place yet.
    let old = fs::read(image.initrd()).unwrap();
    let dir = image.dir().to_owned();
    drop(image);
    world.set_agent("two");
    drop(world.ensure().unwrap());
    fs::rename(dir.join(INITRD), &new).unwrap();
    fs::write(dir.join(INITRD), old).unwrap();
    let image = world.ensure().unwrap();
    assert!(!new.exists());
    image.verify().unwrap();
    assert_eq!(world.builds(), 1);
}

#[test]
fn one_changed_byte_anywhere_is_refused() {
    for name in [KERNEL, INITRD, ROOTFS, DISK] {
        let world = World::new();
        let image = world.ensure().unwrap();
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

        // Put back, it is read, found right, and trusted again.
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
    let world = World::new();
    let path = world.ensure().unwrap().dir().join(MODULES);
    fs::write(path, "something else").unwrap();
    world.set_agent("two");
    assert!(refusal(&world.ensure().unwrap_err()).message.contains(MODULES));
}

#[test]
fn a_damaged_description_is_an_error_until_the_image_is_built_anew() {
    let world = World::new();
    let path = world.ensure().unwrap().dir().join(INFO);
    let text = fs::read_to_string(&path).unwrap();
    for bad in ["", "{}", &text[..text.len() / 2], &text.replace("\"profile\"", "\"profil\"")] {
        fs::write(&path, bad).unwrap();
        assert_eq!(refusal(&world.ensure().unwrap_err()).kind, RefusalKind::Host);
        assert_eq!(refusal(&world.store().find(&p()).unwrap_err()).kind, RefusalKind::Host);
        assert!(world.store().list().unwrap().is_empty());
    }
    drop(world.store().build(&profile("bookworm"), &world.agent(), &mut SilentProgress).unwrap());
    world.ensure().unwrap().verify().unwrap();

    // Made by another version: simply built anew.
    fs::write(&path, text.replace("\"schema\": 1", "\"schema\": 999")).unwrap();
    assert!(world.store().find(&p()).unwrap().is_none());
    world.ensure().unwrap();
    assert_eq!(world.builds(), 3);
}

#[test]
fn builders_at_once_make_one_image_and_the_later_ones_say_that_they_wait() {
    let world = World::with(Fake { slow: true, ..Fake::default() });
    let notes: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut lines = ProgressLines::default();
                    let image =
                        world.store().ensure(&profile("bookworm"), &world.agent(), &mut lines);
                    image.unwrap().verify().unwrap();
                    lines.0.concat()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(world.builds(), 1);
    let waited = notes.iter().filter(|note| note.contains("waiting: the building")).count();
    assert_eq!(waited, 5, "{notes:?}");
    assert_eq!(world.names(), ["p"]);
}

#[test]
fn readers_see_one_whole_image_while_it_is_replaced_again_and_again() {
    let world = World::new();
    drop(world.ensure().unwrap());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let store = world.store();
                while !done.load(Ordering::SeqCst) {
                    let image = store.find(&p()).unwrap().expect("there is always an image");
                    image.verify().unwrap();
                    assert_eq!(store.list().unwrap().len(), 1);
                }
            });
        }
        let store = world.store();
        for n in 0..6 {
            if n % 3 == 0 {
                world.set_agent(&format!("agent {n}"));
                drop(
                    store
                        .ensure(&profile("bookworm"), &world.agent(), &mut SilentProgress)
                        .unwrap(),
                );
            } else {
                drop(
                    store.build(&profile("bookworm"), &world.agent(), &mut SilentProgress).unwrap(),
                );
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(world.names(), ["p"]);
}

#[test]
fn an_image_in_hand_stays_while_a_new_one_is_built() {
    let world = World::new();
    let held = world.ensure().unwrap();
    let id = held.id();
    thread::scope(|scope| {
        let builder = scope.spawn(|| {
            world
                .store()
                .build(&profile("bookworm"), &world.agent(), &mut SilentProgress)
                .unwrap()
                .id()
        });
        while world.builds() < 2 {
            thread::sleep(Duration::from_millis(5));
        }
        // It is built, and waits for us; others can still start from the old one.
        assert_eq!(world.store().find(&p()).unwrap().unwrap().id(), id);
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
    let world = World::new();
    world.fake.fails.store(true, Ordering::SeqCst);
    assert!(world.ensure().unwrap_err().to_string().contains("on fire"));
    assert!(world.names().is_empty());
    let store = world.store();
    let error = store.ensure(&profile("bookworm"), &world.agent(), &mut Impatient).unwrap_err();
    assert!(error.is::<ToolInterrupted>());
    assert!(world.names().is_empty());

    world.fake.fails.store(false, Ordering::SeqCst);
    let id = world.ensure().unwrap().id();
    world.fake.fails.store(true, Ordering::SeqCst);
    assert!(store.build(&profile("bookworm"), &world.agent(), &mut SilentProgress).is_err());
    assert_eq!(world.names(), ["p"]);
    let image = world.ensure().unwrap();
    image.verify().unwrap();
    assert_eq!(image.id(), id);
}

#[test]
fn sweeping_takes_what_killed_builds_left_and_nothing_else() {
    let world = World::new();
    drop(world.ensure().unwrap());
    let store = world.store();
    let left = world.root().join(".build-q-999999-0123abcd");
    fs::create_dir_all(left.join("work/tree")).unwrap();
    for stranger in [".build-notes", "templates", ".cache"] {
        fs::create_dir(world.root().join(stranger)).unwrap();
    }
    // A living build holds its lock.
    let lock = FileLock::try_acquire(&store.build_lock(&"q".parse().unwrap())).unwrap().unwrap();
    assert!(store.sweep().unwrap().is_empty());
    drop(lock);
    assert_eq!(store.leftovers().unwrap(), std::slice::from_ref(&left));
    assert_eq!(store.sweep().unwrap(), [left]);
    assert!(store.sweep().unwrap().is_empty());
    assert_eq!(world.names(), [".build-notes", ".cache", "p", "templates"]);
}

#[test]
fn removing_is_whole_and_waits_for_nobody_who_builds() {
    let world = World::new();
    let store = world.store();
    assert!(!store.remove(&p()).unwrap());
    drop(world.ensure().unwrap());
    assert!(store.usage(&p()).unwrap().bytes > 0);
    let lock = FileLock::try_acquire(&store.build_lock(&p())).unwrap().unwrap();
    assert_eq!(refusal(&store.remove(&p()).unwrap_err()).kind, RefusalKind::Busy);
    drop(lock);
    assert!(store.remove(&p()).unwrap());
    assert!(world.names().is_empty());
    assert!(store.info(&p()).unwrap().is_none());
}
