//! A signal ends every verb soon, whatever holds it up. Each verb has a row: a verb without one fails.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::time::Instant;

use clap::Command;
use nix::sys::signal::Signal;

use super::interrupts::{SOON, fifo, held};
use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::{self, eventually};

/// What holds a verb up.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hindrance {
    RegistryLock,
    VmLock,
    /// All locks of the image.
    ImageLock,
    /// A pipe without a writer as `config.toml`.
    ConfigPipe,
    /// The same as `profiles.toml`.
    ProfilesPipe,
}

use Hindrance::{ConfigPipe, ImageLock, ProfilesPipe, RegistryLock, VmLock};

/// A command line, and what it waits for. `box` is a running VM, and `new` one that was not started. What it waits for
/// by itself is not listed, and a row that does so waits for everything.
struct VerbRow(&'static str, &'static [Hindrance]);

/// Those that read settings before anything else.
const ALL: &[Hindrance] = &[RegistryLock, VmLock, ImageLock, ConfigPipe, ProfilesPipe];

const ROWS: &[VerbRow] = &[
    VerbRow("run -- true", &[RegistryLock, ImageLock, ConfigPipe, ProfilesPipe]),
    VerbRow("create", &[RegistryLock, ImageLock, ConfigPipe, ProfilesPipe]),
    VerbRow("start new", &[RegistryLock, VmLock, ImageLock, ConfigPipe]),
    VerbRow("exec box -- true", &[RegistryLock, VmLock, ConfigPipe]),
    VerbRow("exec --keep box -- sleep 1021", ALL),
    VerbRow("exec --all -- true", &[RegistryLock, VmLock, ConfigPipe]),
    VerbRow("shell box", &[ConfigPipe]),
    VerbRow("cp file box:", &[ConfigPipe]),
    VerbRow("cp box:/etc/hostname out", &[ConfigPipe, ProfilesPipe]),
    VerbRow("stop box", &[RegistryLock, VmLock, ConfigPipe]),
    VerbRow("rm box", &[RegistryLock, VmLock, ConfigPipe]),
    VerbRow("rm --all", &[RegistryLock, VmLock, ConfigPipe]),
    VerbRow("logs box", &[ConfigPipe]),
    VerbRow("logs --follow box", ALL),
    VerbRow("wait box", ALL),
    VerbRow("extend box 20m", &[RegistryLock, VmLock, ConfigPipe, ProfilesPipe]),
    VerbRow("rename box other", &[RegistryLock, VmLock, ConfigPipe]),
    VerbRow("status", &[ConfigPipe]),
    VerbRow("status box", &[ConfigPipe]),
    VerbRow("inspect box", &[ConfigPipe]),
    VerbRow("port box", &[ConfigPipe]),
    VerbRow("df", &[ConfigPipe, ProfilesPipe]),
    VerbRow("reap", &[ConfigPipe, ProfilesPipe]),
    VerbRow("profiles", &[ConfigPipe, ProfilesPipe]),
    VerbRow("config show", &[ConfigPipe, ProfilesPipe]),
    VerbRow("config path", &[ConfigPipe]),
    VerbRow("image build debian-git", ALL),
    VerbRow("image pull 127.0.0.1:1/app", &[ConfigPipe, ProfilesPipe]),
    VerbRow("image import tree mine", &[ImageLock, ConfigPipe, ProfilesPipe]),
    VerbRow("image ls", &[ConfigPipe]),
    VerbRow("image rm --force debian-base", &[ImageLock, ConfigPipe]),
    VerbRow("image prune", &[ConfigPipe, ProfilesPipe]),
    VerbRow("template build", &[RegistryLock, ImageLock, ConfigPipe, ProfilesPipe]),
    VerbRow("template ls", &[ConfigPipe]),
    VerbRow("template rm --all", &[ConfigPipe]),
    VerbRow("pool fill", &[RegistryLock, ImageLock, ConfigPipe, ProfilesPipe]),
    VerbRow("pool ls", &[ConfigPipe]),
    VerbRow("pool drain", &[ConfigPipe]),
    VerbRow("doctor", &[ConfigPipe]),
    VerbRow("completions bash", &[ConfigPipe]),
];

impl VerbRow {
    fn words(&self) -> Vec<&str> {
        self.0.split(' ').collect()
    }
}

/// The verbs below a command, as in "image ls".
pub fn verbs(command: &Command, above: &str, found: &mut BTreeSet<String>) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let name = format!("{above}{}", verb.get_name());
        if verb.has_subcommands() {
            verbs(verb, &format!("{name} "), found);
        } else {
            found.insert(name);
        }
    }
}

#[test]
fn every_verb_has_a_row() {
    let mut wanted = BTreeSet::new();
    verbs(&mayfly::cli::command(), "", &mut wanted);
    wanted.retain(|verb| {
        !ROWS.iter().any(|row| format!("{} ", row.0).starts_with(&format!("{verb} ")))
    });
    assert!(wanted.is_empty(), "add rows for {wanted:?}");
}

/// Whether a command does nothing but wait: it has been asleep that often when it was looked at.
fn waits(live: &mut Live, asleep: &mut u32, enough: u32) -> bool {
    if live.is_running() && processes::status_field(live.pid(), "State").starts_with('S') {
        *asleep += 1;
    }
    *asleep >= enough
}

/// Gives all verbs that wait for it a signal.
fn interrupt_all(start: &dyn Fn(&VerbRow) -> Live, hindrance: Hindrance) -> Vec<String> {
    let mut wrong = Vec::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let rows = ROWS.iter().filter(|row| row.1.contains(&hindrance));
        let mut waiting: Vec<_> = rows.map(|row| (row, start(row), 0)).collect();
        eventually("waiting commands", || {
            let mut is_settled = true;
            for (_, live, asleep) in &mut waiting {
                is_settled &= waits(live, asleep, 40) || !live.is_running();
            }
            is_settled
        });
        for (row, live, _) in &mut waiting {
            if live.is_running() {
                live.signal(signal);
            } else {
                wrong.push(format!("{hindrance:?}: {} does not wait", row.0));
            }
        }
        let begun = Instant::now();
        // A command that has just started gets the first signal; then the second is mayfly's.
        eventually("the end, or a while", || {
            let ended = waiting.iter_mut().all(|(_, live, _)| !live.is_running());
            ended || begun.elapsed() > SOON / 2
        });
        for (row, live, _) in &mut waiting {
            if row.0.starts_with("exec ") && live.is_running() {
                live.signal(signal);
            }
        }
        // Last, because a signal that comes before the end of a command is the command's: its VM is then deleted, which
        // waits for the registry as always.
        waiting.sort_by_key(|(row, ..)| row.0.starts_with("exec "));
        for (row, live, _) in waiting {
            let answer = live.end();
            // The command's own, or mayfly's because the VM could not be deleted.
            let of_exec = row.0.starts_with("exec ") && hindrance == RegistryLock;
            if of_exec && begun.elapsed() < SOON && answer.stderr().contains("is locked") {
                continue;
            }
            // A verb that leaves nothing half done is killed by the signal, which a shell shows as the same code.
            let number = signal as i32;
            if begun.elapsed() > SOON || ![128 + number, -number].contains(&answer.code()) {
                let (took, code) = (begun.elapsed(), answer.code());
                let what = format!("{hindrance:?}: {} after {signal}", row.0);
                wrong.push(format!("{what}: {code}, {took:?}: {}", answer.stderr()));
            }
        }
    }
    wrong
}

/// Verbs that do not wait for it end by themselves, with whatever other result.
fn let_others_end(start: &dyn Fn(&VerbRow) -> Live, hindrance: Hindrance) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in ROWS.iter().filter(|row| !row.1.contains(&hindrance)) {
        let mut live = start(row);
        live.close_stdin();
        let mut asleep = 0;
        eventually("the end of a command", || {
            waits(&mut live, &mut asleep, 2000) || !live.is_running()
        });
        if live.is_running() || live.end().stderr().contains(" is locked") {
            wrong.push(format!("{hindrance:?}: {} waits", row.0));
        }
    }
    wrong
}

fn scene(hindrance: Hindrance) -> Environment {
    let mut env = if hindrance == ImageLock { Environment::qemu() } else { Environment::mock() };
    if hindrance == ImageLock {
        env.keep_templates_apart();
    }
    // Without it, nothing is looked at.
    fs::create_dir_all(env.artifacts()).unwrap();
    // Nothing answers there.
    env.set("MAYFLY_DEBIAN_MIRROR", "http://127.0.0.1:1");
    env.file("file", "content");
    fs::create_dir_all(env.root().join("tree/etc")).unwrap();
    env.unset("MAYFLY_ACCEL");
    env.start(&["--backend", "mock", "--name", "box"]);
    env.create(&["--name", "new"]);
    env
}

#[track_caller]
fn a_signal_ends_the_wait(hindrance: Hindrance) {
    let env = scene(hindrance);
    let images = env.images();
    let locks: Vec<File> = match hindrance {
        RegistryLock => vec![held(&env.state().join("registry.lock"))],
        VmLock => {
            let lock = |id| held(&env.state().join("locks").join(format!("{id}.lock")));
            env.ids().iter().map(lock).collect()
        }
        ImageLock => {
            let names = ["debian-base.use", "debian-base.turn", "debian-git.build", "mine.build"];
            names.iter().map(|name| held(&images.join(format!(".{name}")))).collect()
        }
        ConfigPipe | ProfilesPipe => Vec::new(),
    };
    let variable = match hindrance {
        ConfigPipe => Some("MAYFLY_CONFIG"),
        ProfilesPipe => Some("MAYFLY_PROFILES"),
        _ => None,
    };
    let pipe = fifo(env.root().join("fifo"));
    // Not for the commands that the test itself needs.
    let start = |row: &VerbRow| {
        let mut command = env.command(&row.words());
        command.envs(variable.map(|variable| (variable, &pipe)));
        Live::start(command)
    };
    let before = what_is_there(&env);
    let mut wrong = interrupt_all(&start, hindrance);
    assert_eq!(what_is_there(&env), before, "something was done or left");
    wrong.extend(let_others_end(&start, hindrance));
    drop(locks);
    env.clear();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a verb might have changed or left: states of VMs, processes, files.
fn what_is_there(env: &Environment) -> Vec<String> {
    let mut all = env.leftovers();
    let vms = env.run(&["status", "--json"]).json();
    let vms = vms.as_array().unwrap().iter();
    all.extend(vms.map(|vm| format!("{} {} {}", vm["vm_id"], vm["name"], vm["state"])));
    for entry in fs::read_dir(env.images()).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        // The files of locks stay.
        if !name.starts_with('.') {
            all.push(name);
        }
    }
    all.sort();
    all
}

#[test]
fn a_signal_ends_every_wait_for_the_registrys_lock() {
    a_signal_ends_the_wait(RegistryLock);
}

#[test]
fn a_signal_ends_every_wait_for_a_vms_lock() {
    a_signal_ends_the_wait(VmLock);
}

#[test]
fn a_signal_ends_every_wait_for_an_images_lock() {
    a_signal_ends_the_wait(ImageLock);
}

#[test]
fn a_signal_ends_every_wait_for_a_pipe_as_configuration() {
    a_signal_ends_the_wait(ConfigPipe);
}

#[test]
fn a_signal_ends_every_wait_for_a_pipe_as_profiles() {
    a_signal_ends_the_wait(ProfilesPipe);
}
