//! GNU make: parallel recipes, failures and Ctrl-C.

use std::os::unix::process::{CommandExt, ExitStatusExt};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::answer::Answer;
use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::eventually;

/// Runs make with this makefile.
fn make(env: &Environment, makefile: &str, args: &[&str]) -> Answer {
    env.file("Makefile", makefile);
    env.run_client("make", &[&["--no-print-directory"], args].concat())
}

const EIGHT: &str = "\
all: 1 2 3 4 5 6 7 8
%:
\t@mayfly run -- sh -c 'echo $@ > $@; cat $@' > $@.out
";

fn outputs(env: &Environment) -> Vec<String> {
    let outputs = (1..=8).map(|target| env.root().join(format!("{target}.out")));
    outputs.map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect()
}

fn eight_recipes_four_at_a_time(env: &Environment) {
    make(env, EIGHT, &["-j4", "all"]).prints("");
    let wanted: Vec<String> = (1..=8).map(|target| format!("{target}\n")).collect();
    assert_eq!(outputs(env), wanted);
    assert!(env.ids().is_empty());
}

#[test]
fn as_many_jobs_as_the_limit_of_vms_all_succeed() {
    eight_recipes_four_at_a_time(&Environment::mock());
}

#[test]
fn recipes_run_in_parallel_in_separate_vms() {
    eight_recipes_four_at_a_time(&Environment::qemu());
}

#[test]
fn more_jobs_than_the_limit_of_vms_fail_with_a_hint() {
    let mut env = Environment::mock();
    env.create(&["--name", "other"]);
    env.set("MAYFLY_MAX_ACTIVE_VMS", "1");
    let makefile = "all:\n\t@mayfly run -- true\n";
    make(&env, makefile, &["all"]).fails(
        2,
        "mayfly: max active VMs reached (1): there is 1 VM, other\n\
         hint: 'mayfly rm other' deletes the oldest, '--wait-slot 10m' waits for a place, \
         MAYFLY_MAX_ACTIVE_VMS allows more\n\
         make: *** [Makefile:2: all] Error 125\n",
    );
    let allowed = makefile.replace("mayfly run", "MAYFLY_MAX_ACTIVE_VMS=2 mayfly run");
    make(&env, &allowed, &["all"]).prints("");
    env.clear();
}

#[test]
fn a_recipe_fails_with_its_commands_own_code() {
    let env = Environment::mock();
    let makefile = "all: a b\na:\n\t@mayfly run -c 'exit 3'\nb:\n\t@mayfly run -- echo done\n";
    make(&env, makefile, &["-k", "all"]).is(
        2,
        "done\n",
        "make: *** [Makefile:3: a] Error 3\nmake: Target 'all' not remade because of errors.\n",
    );
}

/// A VM that a recipe leaves running keeps neither make's pipes open, whose reader would wait, nor its job server.
#[test]
fn make_ends_while_a_vm_that_it_started_lives_on() {
    let env = Environment::mock();
    // `+` gives the recipe the job server's descriptors.
    let makefile = "up:\n\t+@mayfly create --name box --keep > id\n\t+@mayfly start box\n";
    make(&env, makefile, &["-j2", "up"]).prints("box\n");
    assert_eq!(env.status("box")["state"], "started");
    env.rm("box");
}

#[test]
fn ctrl_c_ends_make_and_all_vms_of_its_recipes() {
    let env = Environment::mock();
    env.file("Makefile", "all: 1 2 3 4\n%:\n\t@mayfly run -c ': > started; exec sleep 600'\n");
    let mut command = env.client("make", &["-j4", "all"]);
    // A process group, to which a terminal would send the signal.
    command.process_group(0);
    let running = Live::start(command);
    let started = |id: &String| env.state().join("vms").join(id).join("work/started").exists();
    eventually("four commands in four VMs", || {
        let ids = env.ids();
        ids.len() == 4 && ids.iter().all(started)
    });
    killpg(Pid::from_raw(running.pid()), Signal::SIGINT).unwrap();
    let answer = running.end();
    assert_eq!(answer.status.signal(), Some(Signal::SIGINT as i32), "{answer}");
    assert!(answer.stderr().contains("Error 130"), "{answer}");
    assert!(env.ids().is_empty());
}
