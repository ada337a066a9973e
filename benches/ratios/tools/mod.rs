//! Other tools that run a command in a fresh environment, if they are installed. bubblewrap and crun are
//! no direct competitors: they share the host's kernel.

mod crun;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mayfly::host::which;

use self::crun::Crun;
use crate::options::Options;
use crate::samples::ms_since;
use crate::workspace::{Workspace, timed};

/// A tool that works on this host.
pub struct ComparedTool {
    pub tool: Tool,
    take: Sampler,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Bubblewrap,
    Crun,
    VirtmeNg,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Tool::Bubblewrap => "bubblewrap",
            Tool::Crun => "crun",
            Tool::VirtmeNg => "virtme-ng",
        }
    }

    /// Its name, with how it differs from mayfly.
    pub fn label(self) -> String {
        let what = match self {
            Tool::Bubblewrap | Tool::Crun => "no VM",
            Tool::VirtmeNg => "without KVM",
        };
        format!("{} ({what})", self.name())
    }

    /// Whether it takes half a minute.
    pub fn is_slow(self) -> bool {
        self == Tool::VirtmeNg
    }
}

impl ComparedTool {
    /// Milliseconds of running `true`, or a command that does no more.
    pub fn take(&self) -> Result<f64> {
        (self.take)()
    }
}

/// The tools that work on this host. Prints why the others are not measured.
pub fn usable(workspace: &Workspace, options: &Options) -> Vec<ComparedTool> {
    let mut usable = Vec::new();
    for tool in [Tool::Bubblewrap, Tool::Crun, Tool::VirtmeNg] {
        let take = match tool {
            Tool::Bubblewrap => bubblewrap(),
            Tool::Crun => crun(workspace),
            Tool::VirtmeNg => virtme_ng(workspace, options.kernel.clone()),
        };
        // Runs the tool once, to check that it works.
        let tried = take.and_then(|take| take().map(|_| ComparedTool { tool, take }));
        match tried {
            Ok(other) => usable.push(other),
            Err(error) => eprintln!("bench: {} is not measured: {error:#}", tool.name()),
        }
    }
    usable
}

/// Runs a tool, and returns the milliseconds it took.
type Sampler = Box<dyn Fn() -> Result<f64>>;

fn bubblewrap() -> Result<Sampler> {
    let bwrap = find("bwrap")?;
    let flags = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all"];
    Ok(Box::new(move || timed(quiet(&bwrap).args(flags).arg("true"))))
}

fn crun(workspace: &Workspace) -> Result<Sampler> {
    let crun = Crun::prepare(find("crun")?, workspace.path("crun"))?;
    Ok(Box::new(move || crun.run()))
}

/// Boots a kernel with the host's file system, without KVM.
fn virtme_ng(workspace: &Workspace, kernel: Option<PathBuf>) -> Result<Sampler> {
    let vng = find("vng")?;
    let shared = workspace.path("virtme-ng");
    fs::create_dir_all(&shared)?;
    let mark = shared.join("mark");
    Ok(Box::new(move || {
        let mut command = quiet(&vng);
        command.arg("--disable-kvm").arg("--rwdir").arg(&shared);
        command.arg("--run").args(&kernel).args(["--", "touch"]).arg(&mark);
        let begun = Instant::now();
        let output = command.stderr(Stdio::piped()).output()?;
        let taken = ms_since(begun);
        // The exit code is not reported if the kernel's driver for that is a module, so look for the file
        // instead.
        if fs::remove_file(&mark).is_err() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("it does not work: {}", said.trim_end().lines().last().unwrap_or_default());
        }
        Ok(taken)
    }))
}

fn find(program: &str) -> Result<PathBuf> {
    which::find(Path::new(program)).with_context(|| format!("{program} is not installed"))
}

#[expect(clippy::disallowed_methods, reason = "what is measured is a process")]
fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
