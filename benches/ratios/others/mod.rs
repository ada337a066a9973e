//! Other tools that run a command in something fresh, where they are installed. They are not rivals of
//! the same kind: the first two share the host's kernel.

mod crun;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mayfly::host::program;

use self::crun::Crun;
use crate::numbers::ms_since;
use crate::options::Options;
use crate::workspace::{Workspace, timed};

/// What virtme-ng's guest is to say.
const SAID: &str = "a-fresh-machine";

/// A tool that can be measured here.
pub struct Other {
    pub name: &'static str,
    /// Whether it takes half a minute.
    pub is_slow: bool,
    take: Box<dyn Fn() -> Result<f64>>,
}

impl Other {
    /// Milliseconds of running `true`, or a command that does no more.
    pub fn take(&self) -> Result<f64> {
        (self.take)()
    }
}

/// Those that work here. Says of the others why they are not measured.
pub fn usable(workspace: &Workspace, options: &Options) -> Vec<Other> {
    let crun = || {
        let crun = Crun::prepare(find("crun")?, workspace.path("crun"))?;
        tried(Other { name: "crun", is_slow: false, take: Box::new(move || crun.run()) })
    };
    let tools: [(&str, &dyn Fn() -> Result<Other>); 3] = [
        ("bubblewrap", &bubblewrap),
        ("crun", &crun),
        ("virtme-ng", &|| virtme_ng(options.kernel.clone())),
    ];
    let mut usable = Vec::new();
    for (name, prepare) in tools {
        match prepare() {
            Ok(other) => usable.push(other),
            Err(error) => eprintln!("bench: without {name}: {error:#}"),
        }
    }
    usable
}

fn bubblewrap() -> Result<Other> {
    let bwrap = find("bwrap")?;
    let flags = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all"];
    let take = move || timed(quiet(&bwrap).args(flags).arg("true"));
    tried(Other { name: "bubblewrap", is_slow: false, take: Box::new(take) })
}

/// Boots a kernel with the host's file system, emulated as our VMs are.
fn virtme_ng(kernel: Option<PathBuf>) -> Result<Other> {
    let vng = find("vng")?;
    let take = move || {
        let mut command = quiet(&vng);
        command.args(["--disable-kvm", "--run"]).args(&kernel).args(["--", "echo", SAID]);
        let begun = Instant::now();
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
        let taken = ms_since(begun);
        // Not the exit code, which is 255 for a guest that says nothing to it.
        if !String::from_utf8_lossy(&output.stdout).contains(SAID) {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("it does not work: {}", why.lines().last().unwrap_or_default());
        }
        Ok(taken)
    };
    tried(Other { name: "virtme-ng", is_slow: true, take: Box::new(take) })
}

fn find(program: &str) -> Result<PathBuf> {
    program::find(Path::new(program)).with_context(|| format!("{program} is not installed"))
}

/// One that works.
fn tried(other: Other) -> Result<Other> {
    other.take().map(|_| other)
}

#[expect(clippy::disallowed_methods, reason = "what is measured is a process")]
fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
