//! Importing an image that is there already, where the file system cannot exchange two directories.

use std::fs;
use std::process::Command;

use super::archives::{content, layer};
use crate::support::answer::Answer;
use crate::support::environment::Environment;

/// Runs mayfly where no directories can be exchanged, and with `fault` at the `when`th renaming.
fn without_exchange(env: &Environment, fault: &str, when: u32, args: &[&str]) -> Answer {
    let inject = format!("inject=rename:{fault}:when={when}");
    let words = ["-qq", "-o", "/dev/null", "-e", "trace=rename,renameat2"];
    let faults = ["-e", "inject=renameat2:error=EINVAL", "-e", &inject];
    let program = env!("CARGO_BIN_EXE_mayfly");
    env.run_client("strace", &[&words[..], &faults, &[program], args].concat())
}

/// Whenever the import is killed or fails, either image is there, whole, for whatever command comes next.
#[test]
fn an_image_is_never_lost_where_directories_cannot_be_exchanged() {
    if Command::new("strace").arg("-V").output().is_err() {
        return;
    }
    let mut env = Environment::mock();
    env.keep_templates_apart();
    let archive = |name: &str| {
        let mut bytes = layer(&[("etc/which", name)]);
        bytes.extend([0; 1024]);
        let path = env.root().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (old, new) = (archive("old"), archive("new"));
    let image = env.artifacts().join("x");
    let checks = [&["image", "ls"][..], &["reap"], &["image", "prune", "--dry-run"]];
    let mut lost = 0;
    for fault in ["signal=SIGKILL", "error=EIO"] {
        for when in 1.. {
            env.run(&["image", "import", "-q", &old, "x"]).prints("x\n");
            let answer = without_exchange(&env, fault, when, &["image", "import", "-q", &new, "x"]);
            lost += u32::from(!image.exists());
            let check = checks[when as usize % checks.len()];
            assert_eq!(env.run(check).code(), 0, "{fault} {when}: {check:?}");
            assert!(
                env.run(&["image", "ls"]).stdout().contains("\nx "),
                "{fault} {when}: {check:?}"
            );
            let which = content(&image, "/etc/which");
            if answer.code() == 0 {
                assert_eq!(which, "new", "{fault} {when}");
                break;
            }
            assert!(["old", "new"].contains(&which.as_str()), "{fault} {when}: {which}");
            assert!(when < 20, "{fault}: {answer}");
        }
    }
    assert_eq!(lost, 1, "the moment between two renamings was not met");
    // A deletion is final, whatever a killed import has left.
    env.run(&["image", "rm", "x"]).prints("x\n");
    assert!(!env.run(&["image", "ls"]).stdout().contains("\nx "));
}
