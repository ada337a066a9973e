//! Completion in real shells, by pressing Tab in a terminal.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::environment::{Environment, finish};
use crate::support::live::Live;
use crate::support::processes::eventually;
use crate::support::skip::skipped;
use crate::support::terminal;

/// An interactive shell that has read its completion script.
struct Prompt {
    shell: Live,
    keyboard: File,
    /// Reads the shell's output, so that the shell does not block.
    screen: Option<JoinHandle<String>>,
    answers: PathBuf,
    count: usize,
}

impl Prompt {
    fn open(env: &Environment, program: &str, flags: &[&str], setup: &str) -> Prompt {
        let (keyboard, slave) = terminal::open();
        // Its own session, with this as the controlling terminal.
        let mut command = env.client("setsid", &[&["--ctty", program], flags].concat());
        command.env("TERM", "xterm").env("INPUTRC", "/dev/null").env("PS1", "> ");
        let stream = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let shell = Live::start_as_set_up(command);
        let mut shown = keyboard.try_clone().unwrap();
        let screen = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // Reading fails when the shell has ended.
            let _ = shown.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let answers = env.root().join("answers");
        fs::create_dir_all(&answers).unwrap();
        let mut prompt = Prompt { shell, keyboard, screen: Some(screen), answers, count: 0 };
        prompt.type_line(setup);
        prompt
    }

    fn bash(env: &Environment) -> Prompt {
        let flags = ["--norc", "--noprofile", "-i"];
        Prompt::open(env, "bash", &flags, "source <(mayfly completions bash)")
    }

    /// Types a line and waits until it has been executed.
    #[track_caller]
    fn type_line(&mut self, keys: &str) {
        self.count += 1;
        let done = self.answers.join(format!("{}.done", self.count));
        // One line at a time: a shell may lose input while it reads its script.
        self.keyboard.write_all(format!("{keys}\n").as_bytes()).unwrap();
        self.keyboard.write_all(format!("echo > {}\n", done.display()).as_bytes()).unwrap();
        eventually(&format!("the end of {keys:?}"), || done.exists());
    }

    /// The words that bash offers for the last word of a line.
    #[track_caller]
    fn offers(&mut self, line: &str) -> Vec<String> {
        let answer = self.answers.join(format!("{}.answer", self.count + 1));
        // Inserts all completions (M-*), and then turns the line into arguments of printf.
        self.type_line(&format!("{line}\u{1b}*\u{5} > {}\u{1}printf '%s\\n' ", answer.display()));
        let words = fs::read_to_string(answer).unwrap();
        let words: Vec<&str> = words.lines().collect();
        let before = line.split_whitespace().count() - usize::from(!line.ends_with(' '));
        let after = words[before..].iter().map(|word| (*word).to_owned());
        // A word without completions is unchanged.
        let typed = line.rsplit(' ').next().unwrap();
        after.filter(|word| word != typed).collect()
    }

    fn close(mut self) -> String {
        self.keyboard.write_all(b"exit\n").unwrap();
        assert_eq!(self.shell.end().code(), 0);
        drop(self.keyboard);
        self.screen.take().unwrap().join().unwrap()
    }
}

#[test]
fn there_is_a_script_for_three_shells() {
    let env = Environment::mock();
    for (shell, word) in [
        ("bash", "complete -o"),
        ("zsh", "compdef _mayfly mayfly"),
        ("fish", "complete --keep-order"),
    ] {
        let answer = env.run(&["completions", shell]);
        answer.is(0, "[..]MAYFLY_COMPLETE=[..]", "");
        assert!(answer.stdout().contains(word), "{answer}");
    }
    assert!(!env.state().exists());
}

#[test]
fn verbs_flags_and_their_values_complete() {
    let env = Environment::mock();
    let mut bash = Prompt::bash(&env);
    assert_eq!(bash.offers("mayfly sta"), ["start", "status"]);
    assert_eq!(bash.offers("mayfly template b"), ["build"]);
    let flags = bash.offers("mayfly create --");
    for flag in ["--profile", "--vcpus", "--mem", "--ttl", "--name", "--keep"] {
        assert!(flags.iter().any(|offer| offer == flag), "{flag} in {flags:?}");
    }
    assert_eq!(bash.offers("mayfly completions "), ["bash", "zsh", "fish"]);
    assert_eq!(bash.offers("mayfly create --backend m"), ["mock"]);
    assert_eq!(bash.offers("mayfly run --require h"), ["hardware"]);
    assert_eq!(bash.offers("mayfly run --vcpus "), ["1", "2", "4", "8"]);
    assert_eq!(bash.offers("mayfly run --mem 1"), ["1G", "16G"]);
    assert_eq!(bash.offers("mayfly run --net "), ["none", "egress"]);
    assert_eq!(bash.offers("mayfly run --allow "), ["host"]);
    assert_eq!(bash.offers("mayfly run --ttl 1"), ["1m", "10m", "1h"]);
    assert_eq!(bash.offers("mayfly run --env MAYFLY_BA"), ["MAYFLY_BACKEND"]);
    assert_eq!(bash.offers("mayfly status --sort p"), ["profile"]);
    assert_eq!(bash.offers("mayfly status --filter b"), ["backend="]);
    // Words of a command are not mayfly's.
    for line in [
        "mayfly run ls --js",
        "mayfly run --mem 1G ls --js",
        "mayfly run -e A=b:c ls --js",
        "mayfly exec box ls --js",
        "mayfly exec --all ls --js",
        "mayfly shell box top -",
    ] {
        assert_eq!(bash.offers(line), [] as [&str; 0], "{line}");
    }
    assert_eq!(bash.offers("mayfly exec box -e A=b:c --js"), ["--json"]);
    bash.close();
    assert!(!env.state().exists() && !env.artifacts().exists(), "Tab makes nothing");
}

#[test]
fn words_that_bash_splits_are_completed() {
    let env = Environment::mock();
    let id = env.create(&["--name", "zebra", "--label", "job=7"]);
    let mut bash = Prompt::bash(&env);
    let mut completed = |line: &str| bash.offers(line).join(" ");
    assert_eq!(completed("mayfly create --backend=m"), "--backend=mock");
    assert_eq!(completed("mayfly rm --all --filter name=z"), "name=zebra");
    assert_eq!(completed("mayfly status --filter=label=j"), "--filter=label=job=7");
    assert_eq!(completed("mayfly create --profile=debian-bu"), "--profile=debian-build");
    bash.close();
    env.rm(&id);
}

#[test]
fn copy_endpoints_complete() {
    let env = Environment::mock();
    env.create(&["--name", "stopped"]);
    env.start(&["--name", "server"]);
    let file = env.file("sea & sand", "salt");
    let mut bash = Prompt::bash(&env);
    assert_eq!(bash.offers("mayfly cp se"), ["server:", "sea & sand"]);
    assert_eq!(bash.offers("mayfly cp stopped:/tm"), [] as [&str; 0], "it is not started");
    assert_eq!(env.status("stopped")["state"], "created");
    bash.type_line("mayfly cp sea\t ser\tcopy");
    bash.type_line("mayfly cp server:copy ba\tck");
    bash.close();
    assert_eq!(fs::read(env.root().join("back")).unwrap(), fs::read(file).unwrap());
    env.clear();
}

#[test]
fn names_and_ids_of_vms_complete() {
    let env = Environment::mock();
    let id = env.create(&["--name", "zebra"]);
    let nameless = env.start(&[]);
    let mut bash = Prompt::bash(&env);
    for verb in ["start", "stop", "rm", "status"] {
        assert_eq!(bash.offers(&format!("mayfly {verb} zeb")), ["zebra"], "{verb}");
        assert_eq!(bash.offers(&format!("mayfly {verb} {}", &id[..6])), [id.as_str()], "{verb}");
    }
    // Names come before ids, without flags.
    assert_eq!(bash.offers("mayfly start "), ["zebra"], "what runs cannot be started");
    assert_eq!(bash.offers("mayfly exec "), [nameless.as_str()], "only in what runs");
    let mut all = bash.offers("mayfly rm ");
    all.sort();
    let mut wanted = ["zebra", &nameless];
    wanted.sort();
    assert_eq!(all, wanted);
    // Flags before the word take effect.
    let elsewhere = env.root().join("elsewhere");
    assert!(bash.offers(&format!("mayfly --state-dir {} rm zeb", elsewhere.display())).is_empty());
    assert!(!elsewhere.exists());

    // With Tab.
    bash.type_line("mayfly rm zeb\t");
    assert_eq!(env.ids(), [nameless.as_str()]);
    bash.close();
    env.clear();
}

#[test]
fn completion_looks_where_the_settings_say() {
    let mut env = Environment::mock();
    env.create(&["--name", "zebra"]);
    let state = env.state();
    env.unset("MAYFLY_STATE_DIR");
    let config = env.file("config.toml", &format!("state_dir = \"{}\"\n", state.display()));
    env.set("MAYFLY_CONFIG", config);
    let mut bash = Prompt::bash(&env);
    assert_eq!(bash.offers("mayfly start zeb"), ["zebra"]);
    assert_eq!(bash.offers("mayfly config show max"), ["max_active_vms"]);
    bash.close();
    env.clear();
}

#[test]
fn profiles_complete() {
    let env = Environment::mock();
    let mut bash = Prompt::bash(&env);
    for line in [
        "mayfly create --profile debian-b",
        "mayfly run -p debian-b",
        "mayfly image build debian-b",
        "mayfly --backend mock template build -p debian-b",
    ] {
        assert_eq!(bash.offers(line), ["debian-base", "debian-build"], "{line}");
    }
    bash.close();
}

#[test]
fn templates_complete() {
    let env = Environment::mock();
    fs::create_dir_all(env.artifacts().join("templates/debian-base-0123456789ab")).unwrap();
    let mut bash = Prompt::bash(&env);
    assert_eq!(bash.offers("mayfly template rm debian"), ["debian-base-0123456789ab"]);
    bash.close();
}

#[test]
fn broken_files_offer_no_completions_and_no_errors() {
    let mut env = Environment::mock();
    fs::create_dir(env.state()).unwrap();
    fs::write(env.registry(), "{").unwrap();
    env.profiles("broken");
    let mut bash = Prompt::bash(&env);
    assert!(bash.offers("mayfly start x").is_empty());
    assert!(bash.offers("mayfly create -p x").is_empty());
    let screen = bash.close();
    assert!(!screen.contains("damaged") && !screen.contains("hint:"), "{screen}");
}

#[test]
fn text_that_a_shell_would_execute_is_not_offered() {
    let env = Environment::mock();
    env.create(&["--label", "a=$(touch never)", "--label", "b=plain"]);
    let mut bash = Prompt::bash(&env);
    assert_eq!(bash.offers("mayfly rm --all --label "), ["b=plain"]);
    bash.close();
    assert!(!env.root().join("never").exists());
    env.clear();
}

/// A directory with files that a VM of the mock backend can see.
fn guest_files(env: &Environment) -> String {
    let directory = env.root().join("guest");
    fs::create_dir_all(directory.join("sub/deep")).unwrap();
    for name in
        ["co:lon", "do$(touch never)", "it's", "qu\"ote", "sp ace", ".hidden", "sub/deep/end"]
    {
        fs::write(directory.join(name), name).unwrap();
    }
    // These are not offered.
    for name in [&b"x\ny"[..], b"x\ty", b"x\x1b[2J", b"x\xff", "x\u{202e}".as_bytes()] {
        fs::write(directory.join(OsStr::from_bytes(name)), "").unwrap();
    }
    directory.to_str().unwrap().to_owned()
}

/// Completes paths in a VM with Tab, and runs the lines.
fn tab_completes_guest_paths(env: &Environment, prompt: &mut Prompt) {
    env.start(&["--name", "box"]);
    let guest = guest_files(env);
    for name in ["co:lon", "do$(touch never)", "it's", "qu\"ote", "sp ace", ".hidden"] {
        prompt.type_line(&format!("mayfly cp box:{guest}/{}\t copy", &name[..2]));
        let copy = env.root().join("copy");
        assert_eq!(fs::read_to_string(&copy).unwrap(), name);
        fs::remove_file(copy).unwrap();
    }
    // Nothing follows the slash of a directory; the next Tab goes on behind a name that needed quoting.
    fs::rename(format!("{guest}/sub"), format!("{guest}/new 'sub")).unwrap();
    prompt.type_line(&format!("mayfly cp box:{guest}/ne\tde\te\t copy"));
    assert_eq!(fs::read_to_string(env.root().join("copy")).unwrap(), "sub/deep/end");
    prompt.type_line(&format!("mayfly cp copy box:{guest}/ne\tde\tback"));
    assert!(fs::exists(format!("{guest}/new 'sub/deep/back")).unwrap());
    // As for copies, a relative path starts in the home directory.
    prompt.type_line("mayfly cp copy box:relative");
    prompt.type_line("mayfly cp box:relat\t again");
    assert!(env.root().join("again").exists());
    assert!(!env.root().join("never").exists());
}

#[test]
fn tab_completes_paths_in_a_vm_in_bash() {
    let env = Environment::mock();
    let mut bash = Prompt::bash(&env);
    tab_completes_guest_paths(&env, &mut bash);
    let guest = env.root().join("guest").display().to_string();
    assert_eq!(bash.offers(&format!("mayfly cp box:{guest}/x")), [] as [&str; 0]);
    assert_eq!(
        bash.offers(&format!("mayfly cp . box:{guest}/.")),
        [format!("box:{guest}/.hidden")]
    );
    assert_eq!(bash.offers(&format!("mayfly exec box:{guest}/")), [] as [&str; 0]);
    // Inside quotes, which Tab closes.
    for (typed, name) in [("\"sp", "sp ace"), ("'do", "do$(touch never)"), ("\"qu", "qu\"ote")] {
        let (quote, begin) = typed.split_at(1);
        bash.type_line(&format!("mayfly cp {quote}box:{guest}/{begin}\t copy"));
        assert_eq!(fs::read_to_string(env.root().join("copy")).unwrap(), name);
    }
    bash.type_line(&format!("mayfly cp box:\"{guest}/sp\t other"));
    assert_eq!(fs::read_to_string(env.root().join("other")).unwrap(), "sp ace");
    assert!(!env.root().join("never").exists());
    bash.type_line("COMP_WORDBREAKS=${COMP_WORDBREAKS//:}");
    assert_eq!(bash.offers(&format!("mayfly cp box:{guest}/it")), [format!("box:{guest}/it's")]);
    let screen = bash.close();
    assert!(!screen.contains("\u{1b}[2J") && !screen.contains("rror"), "{screen}");
    env.clear();
}

#[test]
fn a_vm_that_does_not_answer_offers_no_paths() {
    let env = Environment::mock();
    let id = env.start(&["--name", "box"]);
    let offers = |env: &Environment| {
        let mut command = env.command(&["--", "mayfly", "cp", "box:/e"]);
        command.env("MAYFLY_COMPLETE", "fish");
        finish(command, b"")
    };
    offers(&env).is(0, "[..]box:/etc/[..]", "");
    // A suspended agent accepts no connection.
    let vmm = Pid::from_raw(env.vmm(&id));
    kill(vmm, Signal::SIGSTOP).unwrap();
    let begun = Instant::now();
    offers(&env).is(0, "", "");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    kill(vmm, Signal::SIGCONT).unwrap();
    offers(&env).is(0, "[..]box:/etc/[..]", "");
    // A VM that has expired is left as it is.
    env.expire(&id);
    offers(&env).is(0, "", "");
    assert_eq!(env.ids(), [id.as_str()]);
    env.clear();
}

/// Completes names with Tab in another shell, and runs the lines.
fn tab_works(program: &str, flags: &[&str], setup: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|directory| directory.join(program).exists()) {
        return skipped(&format!("{program} is not installed"));
    }
    let env = Environment::mock();
    env.create(&["--name", "zebra"]);
    let kept = env.create(&["--name", "kept", "--profile", "debian-git"]);
    let mut prompt = Prompt::open(&env, program, flags, setup);
    prompt.type_line("mayfly rm zeb\t");
    assert_eq!(env.ids(), [kept.as_str()]);
    prompt.type_line("mayfly create --backend=mo\t --name x --profile debian-bu\t");
    assert_eq!(env.status("x")["profile"], "debian-build");
    tab_completes_guest_paths(&env, &mut prompt);
    // Instead of running it, prints the line. Ctrl-A goes to its begin.
    let words = env.root().join("words");
    let line = format!("mayfly run --net egr\t --allow hos\t > {}", words.display());
    prompt.type_line(&format!("{line}\u{1}printf '%s\\n' "));
    let words = fs::read_to_string(words).unwrap();
    assert_eq!(words, "mayfly\nrun\n--net\negress\n--allow\nhost\n");
    let screen = prompt.close();
    assert!(!screen.contains("rror"), "{screen}");
    env.clear();
}

#[test]
fn tab_works_in_zsh() {
    let setup = "autoload -U compinit; compinit -u -D; source <(mayfly completions zsh)";
    tab_works("zsh", &["-f", "-i"], setup);
}

#[test]
fn tab_works_in_fish() {
    tab_works("fish", &["--no-config", "-i"], "mayfly completions fish | source");
}
