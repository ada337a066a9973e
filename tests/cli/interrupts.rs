//! A signal ends every verb soon, whatever it waits for, and nothing is left.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use rustix::fs::{FlockOperation, flock};

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes;

/// More than the two seconds of a machine with nothing else to do; the waits for locks last ten or more.
pub const SOON: Duration = Duration::from_secs(8);

/// Waits until the command does nothing but wait.
#[track_caller]
fn settles(live: &mut Live) {
    let mut asleep = 0;
    processes::eventually("a waiting command", || {
        let is_asleep =
            live.is_running() && processes::status_field(live.pid(), "State").starts_with('S');
        asleep = if is_asleep { asleep + 1 } else { 0 };
        assert!(live.is_running(), "it has ended by itself");
        asleep >= 40
    });
}

/// Sends each of two signals to a command that waits.
#[track_caller]
fn ends_soon(env: &Environment, args: &[&str]) {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut live = env.live(args);
        settles(&mut live);
        live.signal(signal);
        let begun = Instant::now();
        let answer = live.end();
        assert!(begun.elapsed() < SOON, "{signal} after {:?}: {answer}", begun.elapsed());
        // A verb that leaves nothing half done is killed by the signal, which a shell shows as the same code.
        let number = signal as i32;
        assert!([128 + number, -number].contains(&answer.code()), "{answer}");
        assert_eq!(answer.stdout(), "", "{answer}");
    }
}

pub fn held(path: &Path) -> File {
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

#[test]
fn a_signal_that_ended_the_command_also_ends_the_wait_to_delete_its_vm() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let mut live = env.live(&["exec", &id, "--", "sh", "-c", "echo up; exec sleep 1022"]);
    live.says("up");
    let lock = held(&env.state().join("registry.lock"));
    live.signal(Signal::SIGINT);
    let begun = Instant::now();
    let answer = live.end();
    assert!(begun.elapsed() < SOON, "after {:?}: {answer}", begun.elapsed());
    assert_eq!(answer.code(), 125, "{answer}");
    let expected =
        "mayfly: the command has ended, but its VM is not deleted: the registry is locked";
    assert!(answer.stderr().starts_with(expected), "{answer}");
    drop(lock);
    env.rm(&id);
}

#[test]
fn a_signal_ends_the_wait_for_the_registrys_lock() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let stopped = env.create(&["--keep"]);
    let lock = held(&env.state().join("registry.lock"));
    for args in [
        &["create"][..],
        &["run", "--", "true"],
        &["start", &stopped],
        &["stop", &id],
        &["rm", &stopped],
        &["extend", &id, "20m"],
        &["rename", &id, "box"],
        &["template", "build"],
    ] {
        ends_soon(&env, args);
    }
    drop(lock);
    assert_eq!(env.ids().len(), 2);
    env.run(&["start", &stopped]).prints(&format!("{stopped}\n"));
    env.clear();
}

#[test]
fn a_signal_ends_the_wait_for_a_vms_lock() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let lock = held(&env.state().join("locks").join(format!("{id}.lock")));
    for args in [
        &["start", &id][..],
        &["stop", &id],
        &["rm", &id],
        // The command ends, and its VM cannot be deleted.
        &["exec", &id, "--", "true"],
        &["exec", "--all", "--", "true"],
    ] {
        ends_soon(&env, args);
    }
    drop(lock);
    env.rm(&id);
}

pub fn fifo(path: PathBuf) -> PathBuf {
    nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    path
}

#[test]
fn a_signal_ends_the_wait_for_a_pipe() {
    let mut env = Environment::mock();
    let id = env.start(&["--keep"]);
    let pipe = fifo(env.root().join("fifo"));
    let path = pipe.to_str().unwrap().to_owned();
    let secret = format!("a={path}");
    for args in [
        &["run", "--env-file", &path, "--", "true"][..],
        &["exec", "--env-file", &path, &id, "--", "true"],
        &["exec", "--secret", &secret, &id, "--", "true"],
        &["image", "import", &path],
    ] {
        ends_soon(&env, args);
    }
    // With a writer, it is read.
    let live = env.live(&["exec", "--env-file", &path, &id, "--", "sh", "-c", "echo $A"]);
    let mut writer = File::options().write(true).open(&pipe).unwrap();
    writer.write_all(b"A=1\n").unwrap();
    drop(writer);
    live.end().is(0, "1\n", "");
    for variable in ["MAYFLY_PROFILES", "MAYFLY_CONFIG"] {
        env.set(variable, &pipe);
        for args in [&["profiles"][..], &["create"], &["run", "--", "true"]] {
            ends_soon(&env, args);
        }
        env.unset(variable);
    }
    assert_eq!(env.ids(), [id.as_str()]);
    env.rm(&id);
}

#[test]
fn a_pipe_where_mayfly_keeps_its_files_is_an_error() {
    let env = Environment::mock();
    let id = env.create(&[]);
    let image = env.artifacts().join("mine");
    std::fs::create_dir_all(&image).unwrap();
    fifo(image.join("profile.toml"));
    for args in [&["profiles"][..], &["create"], &["run", "--", "true"]] {
        let answer = env.run(args);
        assert_ne!(answer.code(), 0, "{answer}");
        assert!(answer.stderr().contains("is not a regular file"), "{answer}");
    }
    std::fs::remove_dir_all(&image).unwrap();
    env.rm(&id);
    std::fs::remove_file(env.registry()).unwrap();
    fifo(env.registry());
    for args in [&["status"][..], &["create"], &["run", "--", "true"], &["reap"]] {
        let answer = env.run(args);
        assert_ne!(answer.code(), 0, "{answer}");
        assert!(answer.stderr().contains("is not a regular file"), "{answer}");
    }
    std::fs::remove_file(env.registry()).unwrap();
}

#[test]
fn a_signal_ends_the_wait_for_an_images_lock() {
    let mut env = Environment::qemu();
    env.keep_templates_apart();
    let id = env.create(&[]);
    let lock = held(&env.artifacts().join(".debian-base.use"));
    for args in [&["create"][..], &["run", "--", "true"], &["start", &id]] {
        ends_soon(&env, args);
    }
    drop(lock);
    assert_eq!(env.ids(), [id.as_str()]);
    assert_eq!(env.status(&id)["state"], "created", "it was not started");
    env.rm(&id);
}

/// A tar whose header for all members (pax) claims 1 TiB, which are holes.
fn bomb(env: &Environment) -> PathBuf {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XGlobalHeader);
    header.set_path("pax_global_header").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    let path = env.root().join("bomb.tar");
    let mut file = File::create(&path).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((1 << 40) + (1 << 20)).unwrap();
    path
}

#[test]
fn a_bomb_is_refused_or_interrupted() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let bomb = bomb(&env);
    let path = bomb.to_str().unwrap();
    let target = format!("{id}:/tmp");
    for args in
        [&["image", "import", path, "x"][..], &["image", "import", "-", "x"], &["cp", "-", &target]]
    {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let mut command = env.command(args);
            command.stdin(File::open(&bomb).unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut live = Live::start_as_set_up(command);
            let begun = Instant::now();
            processes::eventually("a refusal, or a while", || {
                !live.is_running() || begun.elapsed() > Duration::from_secs(2)
            });
            if live.is_running() {
                live.signal(signal);
            }
            let asked = Instant::now();
            let answer = live.end();
            assert!(
                answer.code() != 0 && asked.elapsed() < SOON,
                "{:?}: {answer}",
                asked.elapsed()
            );
        }
    }
    assert!(!env.artifacts().join("x").exists());
    assert_eq!(env.status(&id)["state"], "started");
    env.rm(&id);
    assert_eq!(env.leftovers(), Vec::<String>::new());
}
