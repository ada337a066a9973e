//! Building images of Debian packages.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use mayfly::host::sparse::clone_file;
use mayfly::host::tool::{ToolInterrupted, ToolRun};
use mayfly::image::{ImageStore, ImageVerification, ProgressLines, ProgressSink};
use mayfly::model::{ImageRecipe, Profile, Refusal, RefusalKind};

use crate::support::{images, programs};

#[test]
fn an_image_has_the_right_files() {
    let image = images::image("debian-base");
    image.verify().unwrap();
    assert_eq!(image.verify().unwrap(), ImageVerification::Unchanged);

    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(image.dir().to_owned()), 0o700);
    assert_eq!(mode(image.boot_files().kernel), 0o644);
    assert_eq!(mode(image.boot_files().initrd), 0o644);
    assert_eq!(mode(image.boot_files().rootfs), 0o444);
    assert_eq!(mode(image.disk_seed()), 0o600);

    assert!(fs::read(image.boot_files().kernel).unwrap().starts_with(b"\x7fELF"));
    let recipe = image.info().recipe.debian().unwrap();
    let rootfs = fs::metadata(image.boot_files().rootfs).unwrap();
    assert_eq!(rootfs.len(), u64::from(recipe.root_mib) << 20);

    // Every VM's disk is a copy of this file, so it must take little room and time.
    let seed = fs::metadata(image.disk_seed()).unwrap();
    assert_eq!(seed.len(), u64::from(recipe.disk_mib) << 20);
    assert!(seed.blocks() * 512 < 1 << 20, "the seed takes {} blocks", seed.blocks());
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let started = Instant::now();
    clone_file(&image.disk_seed(), &disk).unwrap();
    eprintln!("cloned a disk in {:?}", started.elapsed());
    let disk = fs::metadata(disk).unwrap();
    assert_eq!((disk.len(), disk.mode() & 0o777), (seed.len(), 0o600));
    assert!(disk.blocks() * 512 < 1 << 20, "the copy takes {} blocks", disk.blocks());
}

/// A profile whose image no other test uses.
fn small(packages: &[&str]) -> Profile {
    let mut profile = images::profile("debian-base");
    profile.name = "small".parse().unwrap();
    let ImageRecipe::Debian(recipe) = &mut profile.recipe else { panic!("it is of packages") };
    recipe.packages = packages.iter().map(|&name| name.to_owned()).collect();
    profile
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.retain(|name| !name.starts_with(".small."));
    names
}

/// The processes with this directory in their arguments.
fn processes_of(directory: &Path) -> Vec<String> {
    let wanted = directory.to_str().unwrap();
    let is_ours = |pid: &str| pid == std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().into_string().ok()?;
        let cmdline = fs::read(entry.path().join("cmdline")).ok()?;
        let text = String::from_utf8_lossy(&cmdline).replace('\0', " ");
        (pid.parse::<u32>().is_ok() && !is_ours(&pid) && text.contains(wanted)).then_some(text)
    });
    processes.collect()
}

#[test]
fn an_interrupted_build_leaves_no_process_and_no_file() {
    struct UntilItInstalls {
        said: ProgressLines,
        since: Option<Instant>,
    }
    impl ProgressSink for UntilItInstalls {
        fn phase(&mut self, name: &str, index: usize, total: usize) {
            self.said.phase(name, index, total);
        }
        fn detail(&mut self, text: &str) {
            self.said.detail(text);
            if text.starts_with("installing") {
                self.since.get_or_insert_with(Instant::now);
            }
        }
        fn note(&mut self, line: &str) {
            self.said.note(line);
        }
        fn cancelled(&self) -> bool {
            self.since.is_some_and(|since| since.elapsed() > Duration::from_millis(500))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("artifacts");
    let store = ImageStore::open(&root, images::mirror()).unwrap();
    let mut progress = UntilItInstalls { said: ProgressLines::default(), since: None };
    let error = store.ensure(&small(&[]), &programs::agent(), &mut progress).unwrap_err();
    assert!(error.is::<ToolInterrupted>(), "{error:#}\n{}", progress.said.0.join("\n"));
    let since = progress.since.unwrap().elapsed();
    assert!(since < Duration::from_secs(10), "it took {since:?} to give up");
    assert_eq!(names(&root), [""; 0]);
    assert_eq!(processes_of(&root), [""; 0]);
}

#[test]
fn a_killed_build_leaves_a_directory_that_a_sweep_takes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("artifacts");
    let store = ImageStore::open(&root, images::mirror()).unwrap();
    // Killed when the new system has files of several owners.
    let started = Instant::now();
    let status = ToolRun::new(Path::new(env!("CARGO_BIN_EXE_mayfly")))
        .args(["image", "build", "debian-base"])
        .env("MAYFLY_STATE_DIR", dir.path().join("state"))
        .env("MAYFLY_RUNTIME_DIR", dir.path().join("run"))
        .env("MAYFLY_ARTIFACTS_DIR", &root)
        .watch(&mut |_| {}, &|| {
            let is_build = |name: &String| name.starts_with(".build-");
            let build = root.exists().then(|| names(&root).into_iter().find(is_build)).flatten();
            let waited_enough = started.elapsed() > Duration::from_secs(60);
            waited_enough
                || build.is_some_and(|build| root.join(build).join("work/tree/etc/passwd").exists())
        });
    assert!(status.unwrap_err().is::<ToolInterrupted>());

    let builds = || names(&root).into_iter().filter(|name| name.starts_with(".build-"));
    let left: Vec<String> = builds().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with(".build-debian-base-"), "{left:?}");
    // The kernel kills the other processes of the build soon after.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes_of(&root).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", processes_of(&root));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(store.sweep(false).unwrap().len(), 1);
    assert_eq!(builds().count(), 0);
}

#[test]
fn a_package_that_does_not_exist_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("artifacts");
    let store = ImageStore::open(&root, images::mirror()).unwrap();
    let profile = small(&["no-such-package-anywhere"]);
    let error =
        store.ensure(&profile, &programs::agent(), &mut ProgressLines::default()).unwrap_err();
    let refusal = Refusal::find(&error).unwrap();
    assert_eq!(refusal.kind, RefusalKind::Host);
    let mut lines = refusal.quoted.iter().flat_map(|quoted| &quoted.lines);
    assert!(lines.any(|line| line.contains("no-such-package-anywhere")), "{refusal:?}");
    assert!(refusal.hint.as_ref().unwrap().contains("packages"), "{refusal:?}");
    assert_eq!(names(&root), [""; 0]);
}
