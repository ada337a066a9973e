//! `mayfly image import`: what it makes of each source, and that a refused source leaves nothing.
//! `tests/conformance/imported.rs` boots an imported image.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::GzEncoder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::archives::{Image, content, docker, layer, oci, oci_with};
use crate::support::environment::Environment;

/// An environment with its own images, among them one with a kernel.
fn environment() -> Environment {
    let mut env = Environment::mock();
    env.keep_templates_apart();
    env
}

fn write(env: &Environment, name: &str, bytes: &[u8]) -> String {
    let path = env.root().join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A new directory with one inside, if that has a name.
fn directory(env: &Environment, name: &str, inside: &str) -> String {
    let path = env.root().join(name);
    fs::create_dir_all(path.join(inside)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn image(env: &Environment, name: &str) -> PathBuf {
    env.artifacts().join(name)
}

/// The names in the artifacts directory, without locks and the first image.
fn names(env: &Environment) -> Vec<String> {
    let entries = fs::read_dir(env.artifacts()).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let is_lock = |name: &str| [".build", ".use", ".turn"].iter().any(|end| name.ends_with(end));
    names.retain(|name| name != "debian-base" && !is_lock(name));
    names.sort();
    names
}

fn small() -> Image {
    let base = layer(&[("etc/kept", "base"), ("etc/gone", "base"), ("opt/a", "base")]);
    let top = layer(&[("etc/.wh.gone", ""), ("opt/.wh..wh..opq", ""), ("opt/b", "top")]);
    Image::of(&[base, top])
}

#[test]
fn an_images_archive_becomes_a_profile() {
    let env = environment();
    let execution = json!({
        "Entrypoint": ["/bin/init"], "Cmd": null, "Env": ["A=1", "B=x=y", "NOTHING"],
        "User": "app", "WorkingDir": "/srv/app", "Labels": {},
    });
    let archive = oci(&[("v1", &Image { execution, ..small() })]);
    let path = write(&env, "My.App.tar", &archive);
    let answer = env.run(&["image", "import", &path, "--mem", "512M", "--json", "-q"]);
    let made = answer.json();
    assert_eq!((&made["profile"], &made["recipe"]["suite"]), (&"my-app".into(), &json!(null)));
    assert_eq!(
        (&made["recipe"]["imported"]["form"], &made["recipe"]["imported"]["reference"]),
        (&"oci".into(), &"v1".into())
    );
    assert!(
        made["recipe"]["imported"]["digest"].as_str().unwrap().starts_with("sha256:"),
        "{made}"
    );
    assert!(made["files"]["rootfs.ext4"]["digest"].is_string(), "{made}");
    assert!(made["apparent_bytes"].as_u64() > made["bytes"].as_u64(), "{made}");

    let root = image(&env, "my-app");
    assert_eq!(
        (content(&root, "/etc/kept"), content(&root, "/opt/b")),
        ("base".into(), "top".into())
    );
    assert_eq!(
        (content(&root, "/etc/gone"), content(&root, "/opt/a")),
        (String::new(), String::new())
    );
    let kernel = |name| fs::metadata(image(&env, name).join("vmlinux")).unwrap().len();
    assert_eq!(kernel("my-app"), kernel("debian-base"));

    let profiles = env.run(&["profiles", "--json"]).json();
    let profile =
        profiles.as_array().unwrap().iter().find(|profile| profile["profile"] == "my-app").unwrap();
    for (field, value) in [
        ("mem_mib", json!(512)),
        ("entrypoint", json!(["/bin/init"])),
        ("cmd", json!([])),
        ("env", json!({ "A": "1", "B": "x=y" })),
        ("user", json!("app")),
        ("workdir", json!("/srv/app")),
        ("image_built", json!(true)),
    ] {
        assert_eq!(profile[field], value, "{field} of {profile}");
    }
    env.run(&["image", "ls"]).is(0, "PROFILE [..]\nmy-app [..]imported (oci) [..]", "");
    env.run(&["image", "rm", "my-app"]).prints("my-app\n");
    env.run(&["run", "-p", "my-app"]).fails(125, "mayfly: no profile \"my-app\"\n[..]");
    assert_eq!(names(&env), [""; 0]);
}

#[test]
fn every_form_of_a_source_is_recognized() {
    let env = environment();
    let archive = docker("registry.example/small:v1", &small());
    let mut packed = Vec::new();
    GzEncoder::new(&archive[..], Compression::fast()).read_to_end(&mut packed).unwrap();
    env.feed(&["image", "import", "-", "piped"], &packed).is(
        0,
        "piped\n",
        "mayfly: [1/4] reading standard input\n[..]",
    );
    assert_eq!(content(&image(&env, "piped"), "/opt/b"), "top");

    let plain = write(&env, "plain.tar", &layer(&[("etc/kept", "plain"), ("etc/.wh.x", "kept")]));
    env.run(&["image", "import", "-q", &plain]).is(0, "plain\n", "");
    assert_eq!(content(&image(&env, "plain"), "/etc/.wh.x"), "kept");

    let directory = env.root().join("tree");
    fs::create_dir_all(directory.join("usr/lib")).unwrap();
    symlink("usr/lib", directory.join("lib")).unwrap();
    fs::write(directory.join("lib/file"), "through").unwrap();
    fs::hard_link(directory.join("lib/file"), directory.join("other")).unwrap();
    symlink("/etc/passwd", directory.join("outside")).unwrap();
    let before = fs::metadata(directory.join("usr")).unwrap().mtime();
    env.run(&["image", "import", "-q", directory.to_str().unwrap(), "from-directory"])
        .prints("from-directory\n");
    let root = image(&env, "from-directory");
    assert_eq!(
        (content(&root, "/usr/lib/file"), content(&root, "/other")),
        ("through".into(), "through".into())
    );
    assert!(!content(&root, "/outside").contains("root:"));
    assert_eq!(fs::metadata(directory.join("usr")).unwrap().mtime(), before, "only looked at");
    assert_eq!(names(&env), ["from-directory", "piped", "plain"]);
}

#[test]
fn the_image_for_this_architecture_is_selected() {
    let env = environment();
    let arm = Image { architecture: "arm64", ..small() };
    let both = write(&env, "both.tar", &oci(&[("v1", &arm), ("v1", &small())]));
    env.run(&["image", "import", "-q", &both]).prints("both\n");
    let arm = write(&env, "arm.tar", &oci(&[("v1", &arm)]));
    env.run(&["image", "import", &arm]).fails(
        6,
        "mayfly: cannot import [..]arm.tar: the image is for linux/arm64, but VMs here are linux/amd64\n\
         hint: [..]--override-arch amd64[..]",
    );
    // Without a configuration, the programs show the architecture.
    let mut program = [0; 64];
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    program[18] = 183;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(64);
    header.set_mode(0o755);
    tar.append_data(&mut header, "bin/sh", &program[..]).unwrap();
    let programs = write(&env, "programs.tar", &tar.into_inner().unwrap());
    env.run(&["image", "import", "-q", &programs])
        .fails(6, "mayfly: cannot import [..]: its programs are for arm64, but VMs here are amd64\nhint: import an image for amd64\n");

    let several = write(
        &env,
        "several.tar",
        &oci(&[("one", &small()), ("two", &Image::of(&[layer(&[("etc/kept", "2")])]))]),
    );
    env.run(&["image", "import", &several])
        .fails(2, "mayfly: cannot import [..]: it holds 2 images: \"one\", \"two\"\nhint: choose one: --ref NAME\n");
    env.run(&["image", "import", &several, "--ref", "three"])
        .fails(2, "mayfly: [..]no image \"three\"[..]");
    env.run(&["image", "import", "-q", &several, "--ref", "two"]).prints("several\n");
    assert_eq!(content(&image(&env, "several"), "/etc/kept"), "2");
    assert_eq!(names(&env), ["both", "several"]);
}

#[test]
fn damaged_and_hostile_archives_leave_nothing() {
    let env = environment();
    let good = write(&env, "app.tar", &oci(&[("v1", &small())]));
    env.run(&["image", "import", "-q", &good]).prints("app\n");
    let id = || env.run(&["image", "ls", "--json"]).json()[0]["image_digest"].clone();
    let before = id();
    let kept = write(&env, "canary", b"alive");

    let flipped = oci_with(&[("v1", &small())], |blob| {
        if let Some(at) = blob.windows(4).position(|bytes| bytes == b"base") {
            blob[at] ^= 1;
        }
    });
    let damaged = write(&env, "damaged.tar", &flipped);
    env.run(&["image", "import", "-q", &damaged, "app"]).fails(
        1,
        "mayfly: cannot import [..]: layer 1 of 2: its content is damaged: its digest is not sha256:[..]",
    );

    let cut = &fs::read(&good).unwrap()[..3000];
    let cut = write(&env, "cut.tar", cut);
    env.run(&["image", "import", "-q", &cut, "app"])
        .fails(2, "mayfly: cannot import [..]cut short[..]");
    let whole = fs::read(&good).unwrap();
    let mut packed = Vec::new();
    GzEncoder::new(&whole[..], Compression::fast()).read_to_end(&mut packed).unwrap();
    let cut = write(&env, "cut.tar.gz", &packed[..packed.len() / 2]);
    env.run(&["image", "import", "-q", &cut, "app"])
        .fails(1, "mayfly: cannot import [..]/cut.tar.gz: cannot read it: [..]");

    let up = "../".repeat(12) + kept.trim_start_matches('/');
    let hostile = Image::of(&[layer(&[("etc/x", "")]), layer(&[(&up, "dead")])]);
    let hostile = write(&env, "hostile.tar", &oci(&[("v1", &hostile)]));
    env.run(&["image", "import", "-q", &hostile, "app"])
        .fails(2, "mayfly: cannot import [..]: layer 2 of 2: \"[..]canary\" leads out of the archive\nhint: [..]do not trust[..]");

    let bomb = Image::of(&[layer(&[("a", &"x".repeat(700 << 10)), ("b", &"y".repeat(700 << 10))])]);
    let bomb = write(&env, "bomb.tar", &oci(&[("v1", &bomb)]));
    env.run(&["image", "import", "-q", &bomb, "app", "--max-size", "1M"])
        .fails(2, "mayfly: cannot import [..]unpacks to more[..]hint: if you trust it, allow more with --max-size\n");

    assert_eq!(fs::read(&kept).unwrap(), b"alive");
    assert_eq!((names(&env), id()), (vec!["app".to_owned()], before));
}

#[test]
fn impossible_imports_are_refused_before_anything_is_done() {
    let env = Environment::mock();
    let archive = write(&env, "app.tar", &oci(&[("v1", &small())]));
    let text = write(&env, "notes.txt", b"no archive at all");
    let empty = write(&env, "empty.tar", b"");
    let bare = directory(&env, "bare", "");
    let started = directory(&env, "started", "blobs");
    let half = directory(&env, "half", "blobs/sha256");
    fs::write(Path::new(&half).join("blobs/sha256/0a1b"), "a layer").unwrap();
    let blobs = write(&env, "unfinished.tar", &layer(&[("blobs/sha256/0a1b", "a layer")]));
    env.run(&["image", "import", "/no/x.tar"])
        .fails(3, "mayfly: cannot open /no/x.tar: No such file or directory\n");
    for (args, message) in [
        (&["-"][..], "an image from standard input needs a name[..]"),
        (&[&archive, "No Name"], "\"No Name\" cannot be a profile name: [..]"),
        (&[&archive, "templates"], "\"templates\" cannot be a profile name: [..]"),
        (&[&archive, "--mem", "1M"], "--mem must be between [..]"),
        (&[&archive, "--disk", "1M"], "--disk must be between [..]"),
        (&[&archive, "--from", "dir"], "[..]it is a file, not a directory\n"),
        (&[&archive, "--from", "docker"], "[..]it has no \"manifest.json\"[..]"),
        (
            &[&text],
            "cannot import [..]: it is not an archive of a root file system: [..]\nhint: see 'mayfly image import --help' for what can be imported\n",
        ),
        (&[&empty], "cannot import [..]: the archive is empty\n"),
        (&[&bare], "cannot import [..]bare: the directory is empty\n"),
        (
            &[&started],
            "cannot import [..]: it is an incomplete image: it has no index.json\nhint: [..]",
        ),
        (
            &[&half],
            "cannot import [..]: it is an incomplete image: it has no index.json\nhint: [..]",
        ),
        (
            &[&blobs],
            "cannot import [..]: it is an incomplete image: it has no index.json\nhint: [..]",
        ),
    ] {
        let words = [&["image", "import"], args].concat();
        env.run(&words).fails(2, &format!("mayfly: {message}"));
    }
    env.run(&["image", "import", &archive, "debian-git"])
        .fails(4, "mayfly: \"debian-git\" is already a profile of Debian packages\nhint: [..]");
    env.run(&["image", "import", &archive, "--kernel-of", "nope"])
        .fails(3, "mayfly: no profile \"nope\"\n[..]");
    assert_eq!(names(&env), [""; 0]);
}

#[test]
fn an_imported_profile_has_no_packages() {
    let mut env = environment();
    let archive = write(&env, "app.tar", &oci(&[("v1", &small())]));
    env.run(&["image", "import", "-q", &archive]).prints("app\n");
    env.run(&["image", "build", "app"]).is(0, "app\n", "");
    env.run(&["image", "build", "--force", "app"])
        .fails(4, "mayfly: the image of app was imported, and cannot be built\nhint: import it again: mayfly image import [..]app.tar app\n");
    // Its profile needs it, and it cannot be rebuilt.
    env.run(&["image", "prune", "--all", "--dry-run"]).is(
        0,
        "debian-base\n",
        "mayfly: would free [..]",
    );
    env.run(&["image", "prune"]).is(0, "", "mayfly: freed 0 MB\n");

    // It cannot be replaced while a VM needs it.
    env.set("MAYFLY_BACKEND", "qemu");
    let id = env.run(&["create", "-p", "app"]).line();
    env.run(&["image", "import", "-q", &archive])
        .fails(4, "mayfly: replacing the image of \"app\" would strand its VMs: [..]");
    env.run(&["image", "import", "-q", "--force", &archive]).prints("app\n");
    env.rm(&id);
    env.set("MAYFLY_BACKEND", "mock");

    env.profiles("[profiles.app]\nmem_mib = 300\nenv = { A = \"1\" }\n");
    let profiles = env.run(&["profiles", "--json"]).json();
    let app = &profiles.as_array().unwrap()[0];
    assert_eq!(
        (&app["profile"], &app["mem_mib"], &app["env"]),
        (&"app".into(), &300.into(), &json!({ "A": "1" }))
    );
    env.profiles("[profiles.app]\npackages = [\"jq\"]\n");
    env.run(&["profiles"]).fails(
        2,
        "mayfly: [..]:2: profile \"app\": its image was imported, so no file can give it packages[..]",
    );
    env.profiles("[profiles.other]\nextends = \"app\"\n");
    env.run(&["profiles"])
        .fails(2, "mayfly: [..]profiles.toml:2: profile \"other\": it extends \"app\", whose image was imported[..]");
    env.unset("MAYFLY_PROFILES");

    fs::write(image(&env, "app").join("image.json"), "{").unwrap();
    env.run(&["image", "build", "app"])
        .fails(6, "mayfly: the image of app is damaged: [..]\nhint: import it again: mayfly image import SOURCE app\n");
    env.run(&["image", "rm", "app"]).prints("app\n");
}

#[test]
fn prune_deletes_what_no_profile_has_and_says_what_it_freed() {
    let mut env = environment();
    let archive = write(&env, "app.tar", &oci(&[("v1", &small())]));
    env.run(&["image", "import", "-q", &archive, "old"]).prints("old\n");
    fs::remove_file(image(&env, "old").join("profile.toml")).unwrap();
    fs::create_dir(env.artifacts().join(".build-old-1-0a1b2c3d")).unwrap();
    let dry = env.run(&["image", "prune", "--dry-run", "--json"]).json();
    let leftover = env.artifacts().join(".build-old-1-0a1b2c3d");
    let deletions = |deleted: bool| {
        json!([
            { "profile": "old", "deleted": deleted, "reason": "not_needed" },
            { "leftover": leftover, "deleted": deleted, "reason": "abandoned" },
        ])
    };
    assert_eq!((&dry["deletions"], &dry["dry_run"]), (&deletions(false), &true.into()));
    assert_eq!(names(&env), [".build-old-1-0a1b2c3d", "old"]);
    let pruned = env.run(&["image", "prune", "--json"]).json();
    assert_eq!((&pruned["deletions"], &pruned["dry_run"]), (&deletions(true), &false.into()));
    assert_eq!(pruned["bytes"], dry["bytes"]);
    assert!(pruned["bytes"].as_u64().unwrap() > 0, "{pruned}");
    assert_eq!(names(&env), [""; 0]);
    // Without an artifacts directory, none is created.
    env.set("MAYFLY_ARTIFACTS_DIR", env.root().join("nowhere"));
    env.run(&["image", "prune"]).is(0, "", "mayfly: freed 0 MB\n");
    assert!(!env.root().join("nowhere").exists());
}

#[test]
fn an_import_that_is_interrupted_or_killed_leaves_nothing_that_reap_does_not_sweep() {
    let env = environment();
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGKILL, None)] {
        let mut import = env
            .command(&["image", "import", "-", "app"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = import.stdin.take().unwrap();
        input.write_all(&layer(&[("x", "y")])).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !names(&env).iter().any(|name| name.starts_with(".build-app-")) {
            assert!(Instant::now() < deadline, "it did not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(Pid::from_raw(import.id().cast_signed()), signal).unwrap();
        assert_eq!(import.wait().unwrap().code(), code);
        assert_eq!(names(&env).len(), usize::from(code.is_none()), "{:?}", names(&env));
    }
    let [left] = names(&env).try_into().unwrap();
    let left = env.artifacts().join(left);
    env.run(&["reap"]).prints(&format!("deleted {}\n", left.display()));
    assert_eq!(names(&env), [""; 0]);
}

#[test]
fn run_combines_entrypoint_and_command_as_docker_does() {
    let mut env = Environment::mock();
    env.profiles(
        "[profiles.greeter]\nextends = \"debian-base\"\nentrypoint = [\"echo\", \"hello\"]\n\
         cmd = [\"world\"]\nenv = { GREETING = \"hi\", KEPT = \"k\" }\nworkdir = \"/\"\n",
    );
    let run = |words: &[&str]| env.run(&[&["run", "-p", "greeter"], words].concat());
    run(&[]).prints("hello world\n");
    run(&["--", "you", "there"]).prints("hello you there\n");
    run(&["--entrypoint", "printf", "--", "%s.", "a"]).prints("a.");
    run(&["--entrypoint", "pwd"]).prints("/\n");
    run(&["--entrypoint", "", "--", "sh", "-c", "echo $GREETING $KEPT"]).prints("hi k\n");
    run(&["-e", "GREETING=flag", "-w", "/tmp", "-c", "echo $GREETING $KEPT; pwd"])
        .prints("flag k\n/tmp\n");
    run(&["--entrypoint", ""]).fails(125, "mayfly: no command is given[..]");
    run(&["--entrypoint", "x", "-c", "y"]).fails(125, "mayfly: [..]cannot be used with[..]");
    assert_eq!(run(&["--json"]).json()["command"], "echo hello world");
    env.run(&["run"])
        .fails(125, "mayfly: no command is given, and profile debian-base has none\nhint: [..]");

    // A VM keeps its profile's settings, and exec does not use the entrypoint.
    let id = env.start(&["-p", "greeter", "--keep"]);
    env.unset("MAYFLY_PROFILES");
    env.run(&["exec", &id, "--", "sh", "-c", "echo $GREETING; pwd"]).prints("hi\n/\n");
    env.run(&["exec", &id]).fails(125, "mayfly: no command given\n[..]");
    env.rm(&id);
    env.profiles("[profiles.x]\nextends = \"debian-base\"\nuser = \"no such\"\n");
    env.run(&["profiles"])
        .fails(2, "mayfly: [..]:3: profile \"x\": \"no such\" cannot be a user\n");
}
