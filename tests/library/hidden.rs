//! Processes of which /proc shows nothing.

use std::path::Path;
use std::process::Command;

use mayfly::host::process;
use mayfly::model::ProcessId;
use nix::sys::prctl::set_dumpable;
use nix::unistd::geteuid;

use crate::support::skip::skipped;

/// The variable with the identity that [`observer`] looks at.
const IDENTITY: &str = "MAYFLY_TEST_IDENTITY";

/// Makes a mount namespace with a /proc that hides processes, and runs a test of this program in it as an ordinary user.
const SCRIPT: &str = "mount -t proc -o hidepid=2 proc /proc
    exec setpriv --reuid=65533 --regid=65533 --clear-groups \"$@\"";

/// The command that runs one of the tests here that are parts of another.
fn part(name: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().display().to_string();
    let words = ["--ignored", "--exact", "--nocapture"].map(str::to_owned);
    [program].into_iter().chain(words).chain([format!("hidden::{name}")]).collect()
}

#[test]
fn a_hidden_process_is_not_taken_for_a_dead_one() {
    if !geteuid().is_root() {
        return skipped("only root can mount /proc");
    }
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", SCRIPT, "sh"])
        .args(part("observed"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("seen as hidden"), "{output:?}");
    let mut me = process::identify_self().unwrap();
    assert!(!process::is_hidden(&me).unwrap(), "it can be seen");
    let mut child = Command::new("true").spawn().unwrap();
    me.pid = child.id() as i32;
    child.wait().unwrap();
    assert!(!process::is_hidden(&me).unwrap(), "it has ended");
}

#[test]
#[ignore = "a part of another test"]
fn observed() {
    if Path::new("/proc/1").exists() {
        return;
    }
    let me = serde_json::to_string(&process::identify_self().unwrap()).unwrap();
    set_dumpable(false).unwrap();
    let words = part("observer");
    let status = Command::new(&words[0]).args(&words[1..]).env(IDENTITY, me).status().unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "a part of another test"]
fn observer() {
    let Ok(identity) = std::env::var(IDENTITY) else { return };
    let identity: ProcessId = serde_json::from_str(&identity).unwrap();
    assert!(process::open(&identity).unwrap().is_none(), "/proc shows it");
    assert!(process::is_hidden(&identity).unwrap());
    println!("seen as hidden");
}
