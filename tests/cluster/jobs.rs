//! Jobs that run mayfly, and how they end.

use std::fs;
use std::io::Read;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::slurm::{Hooks, Slurm};
use crate::support::answer::matches;
use crate::support::environment::finish;
use crate::support::live::Live;
use crate::support::processes::{self, eventually};
use crate::support::terminal::Sitting;

/// Saves its work when it is asked to end.
const SAVING: &str = "mayfly run --mem 256M -- sh -c \
    'trap \"sleep 0.3; echo saved; exit 9\" TERM; echo ready; while :; do sleep 0.1; done'";

/// What Slurm calls the task of a job that is no array.
const NO_ARRAY: &str = "4294967294";

#[test]
fn a_cancelled_job_lets_the_guest_save_its_work() {
    let Some(slurm) = Slurm::start() else { return };
    let job = slurm.submit(&[], &format!("exec {SAVING}"));
    eventually("a running command", || slurm.printed(&job, NO_ARRAY).contains("ready"));
    slurm.client("scancel", &["--full", &job]).prints("");
    assert_eq!(slurm.end(&job), [("CANCELLED".to_owned(), "9:0".to_owned())]);
    assert!(
        slurm.printed(&job, NO_ARRAY).ends_with("saved\n"),
        "{}",
        slurm.printed(&job, NO_ARRAY)
    );
    assert_eq!(slurm.env.leftovers(), [""; 0]);
}

#[test]
fn the_tasks_of_an_array_share_one_template() {
    let Some(mut slurm) = Slurm::start() else { return };
    slurm.env.keep_templates_apart();
    let job = slurm.submit(&["--array=1-20"], "mayfly run --mem 256M -- echo in a VM");
    let ends = slurm.end(&job);
    assert_eq!(ends, vec![("COMPLETED".to_owned(), "0:0".to_owned()); 20]);
    for task in 1..=20 {
        assert_eq!(slurm.printed(&job, &task.to_string()), "in a VM\n");
    }
    let templates = slurm.env.run(&["template", "ls", "--json"]).json();
    assert_eq!(templates.as_array().unwrap().len(), 1, "{templates}");
    assert_eq!(slurm.env.leftovers(), [""; 0]);
}

const ARRAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/slurm/mayfly-array");

#[test]
fn an_array_reports_what_a_loop_would_have_printed() {
    let Some(slurm) = Slurm::start() else { return };
    let commands =
        "# the first\necho one; echo more\n\necho to stderr >&2; exit 3\nprintf '%s\\n' 'a  b'\n";
    let array = |flags: &[&str]| {
        let words = [&["--mem", "256M"], flags].concat();
        finish(slurm.env.client(ARRAY, &words), commands.as_bytes())
    };
    let answer = array(&[]);
    assert_eq!(answer.code(), 3, "{answer}");
    let mut lines: Vec<&str> = answer.stdout().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[1] more", "[1] one", "[3] a  b"]);
    let report = "[2] to stderr\n\
                  TASK  CODE  SECONDS  NODE  COMMAND\n\
                  1     0     [..]  echo one; echo more\n\
                  2     3     [..]  echo to stderr >&2; exit 3\n\
                  3     0     [..]  printf '%s\\n' 'a  b'\n";
    assert!(matches(report, answer.stderr()), "{answer}");

    let tasks = array(&["--json"]);
    let mut tasks = tasks.json_lines();
    tasks.sort_by_key(|task| task["task"].as_u64());
    assert_eq!((&tasks[1]["exit_code"], &tasks[1]["stderr"]), (&3.into(), &"to stderr\n".into()));
    assert!(["one", "two"].contains(&tasks[2]["node"].as_str().unwrap()), "{tasks:?}");
    assert_eq!(slurm.env.leftovers(), [""; 0]);
}

#[test]
fn ctrl_c_cancels_an_array() {
    let Some(slurm) = Slurm::start() else { return };
    let line = SAVING.split_once("sh -c").unwrap().1.trim().trim_matches('\'');
    let mut array = Live::start(slurm.env.client(ARRAY, &["--mem", "256M"]));
    array.write(format!("{line}\n{line}\n").as_bytes());
    array.close_stdin();
    eventually("two running commands", || slurm.env.ids().len() == 2 && running(&slurm) == 2);
    array.signal(Signal::SIGINT);
    let answer = array.end();
    assert_eq!(answer.code(), 130, "{answer}");
    assert!(
        answer.stdout().contains("[1] saved") && answer.stdout().contains("[2] saved"),
        "{answer}"
    );
    assert_eq!(slurm.env.leftovers(), [""; 0]);
}

/// How many commands have said that they run.
fn running(slurm: &Slurm) -> usize {
    let outputs = slurm
        .env
        .root()
        .read_dir()
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(".mayfly-array-"));
    let files = outputs.flat_map(|directory| directory.path().read_dir().unwrap().flatten());
    files.filter(|file| fs::read_to_string(file.path()).is_ok_and(|text| text == "ready\n")).count()
}

#[test]
fn a_terminal_reaches_into_a_vm_on_a_node() {
    let Some(slurm) = Slurm::start() else { return };
    let srun = ["--pty", "mayfly", "run", "--mem", "256M", "-it", "-e", "PS1=> ", "--", "sh"];
    let mut command = slurm.env.client("srun", &srun);
    command.env("TERM", "xterm");
    let mut sitting = Sitting::start(command);
    sitting.sees("> ");
    sitting.types("echo in $MAYFLY_VM on $(tty)\r");
    sitting.sees(" on /dev/pts/");
    sitting.types("exit 4\r");
    assert_eq!(sitting.ends().0, 4);
    eventually("a clean node", || slurm.env.leftovers().is_empty());
}

/// How many jobs are cancelled at random moments.
const CANCELS: &str = "MAYFLY_TEST_CANCELS";

#[test]
fn jobs_that_are_cancelled_at_any_moment_leave_nothing() {
    let Some(slurm) = Slurm::start() else { return };
    let count = std::env::var(CANCELS).map_or(6, |text| text.parse().expect(CANCELS));
    // The template, so that the moments are those of a job that starts from it.
    slurm.env.run(&["run", "--mem", "256M", "--", "true"]).prints("");
    let mut random = fs::File::open("/dev/urandom").unwrap();
    for round in 0..count {
        let job = slurm.submit(&[], "exec mayfly run --mem 256M -- sh -c 'echo ready; sleep 0.5'");
        eventually("a job that has begun", || {
            let state = slurm.client("squeue", &["--noheader", "-o", "%T", "--jobs", &job]);
            state.stdout() != "PENDING\n"
        });
        let mut bytes = [0; 2];
        random.read_exact(&mut bytes).unwrap();
        let pause = Duration::from_millis(u64::from(u16::from_le_bytes(bytes)) % 1500);
        std::thread::sleep(pause);
        // Slurm kills what a job's processes leave of its time, and a failed node kills all of them at once.
        let how: &[&str] = if round % 2 == 0 { &["--full"] } else { &["--full", "--signal=KILL"] };
        let _ = slurm.client("scancel", &[how, &[&job]].concat());
        let ends = slurm.end(&job);
        // As an epilog does.
        eventually("a clean node", || {
            let reaped = slurm.env.run(&["reap"]).code();
            reaped == 0 && slurm.env.leftovers().is_empty()
        });
        println!("cancelled after {pause:?} ({how:?}): {ends:?}");
    }
}

#[test]
fn an_epilog_ends_what_a_job_has_left() {
    let Some(slurm) = Slurm::start_with(Hooks::Installed) else { return };
    let line = "echo $MAYFLY_STATE_DIR; vm=$(mayfly create --keep --mem 256M) && mayfly start $vm\n\
                mayfly status -q --filter label=slurm.job=$SLURM_JOB_ID --filter label=slurm.task=0";
    let job = slurm.submit(&[], line);
    assert_eq!(slurm.end(&job), [("COMPLETED".to_owned(), "0:0".to_owned())]);
    let printed = slurm.printed(&job, NO_ARRAY);
    let (state, run) = (slurm.jobs_state(), slurm.jobs_run());
    assert!(printed.starts_with(&format!("{}/{job}\n", state.display())), "{printed}");
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines.len() == 3 && lines[1] == lines[2], "{printed}");
    eventually("an epilog that is done", || {
        [&state, &run].iter().all(|directory| directory.read_dir().unwrap().next().is_none())
    });
    assert_eq!(processes::of_state(&state.join(&job)), []);
}
