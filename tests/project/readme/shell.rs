//! Runs examples with this build's programs and a temporary registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A limit for blocks that hang: longer than any takes on a busy machine without KVM.
const SECONDS: &str = "600";

/// A shell with a temporary home and registry.
pub struct Shell {
    home: TempDir,
    variables: Vec<(&'static str, PathBuf)>,
}

impl Shell {
    /// A shell whose VMs run on this backend, with images from `artifacts`.
    pub fn new(backend: &str, artifacts: Option<PathBuf>) -> Shell {
        // Not in target, because paths of sockets must be short.
        let home = tempfile::tempdir().unwrap();
        let below = |name: &str| home.path().join(name);
        let variables = vec![
            ("HOME", below("home")),
            ("MAYFLY_STATE_DIR", below("state")),
            ("MAYFLY_RUNTIME_DIR", below("run")),
            ("MAYFLY_ARTIFACTS_DIR", artifacts.unwrap_or_else(|| below("artifacts"))),
            ("MAYFLY_BACKEND", backend.into()),
        ];
        fs::create_dir(below("home")).unwrap();
        Shell { home, variables }
    }

    /// The working directory.
    pub fn directory(&self) -> PathBuf {
        self.home.path().join("home")
    }

    /// Runs a script. With `strict`, it ends with the first command that fails.
    pub fn run(&self, script: &str, strict: bool) -> Output {
        let programs = Path::new(env!("CARGO_BIN_EXE_mayfly")).parent().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path: Vec<PathBuf> =
            [programs.to_owned()].into_iter().chain(std::env::split_paths(&path)).collect();
        let options = if strict { "-euo" } else { "-uo" };
        Command::new("timeout")
            .args([SECONDS, "bash", options, "pipefail", "-c", script])
            .current_dir(self.directory())
            .env_clear()
            .env("PATH", std::env::join_paths(path).unwrap())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .expect("bash and timeout are everywhere")
    }

    /// Runs a strict script that must succeed, and returns its standard output.
    pub fn ok(&self, script: &str) -> String {
        let output = self.run(script, true);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{} in:\n{script}\n{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs commands in one shell, and returns the output and errors of each.
    pub fn transcript(&self, commands: &[&str]) -> Vec<String> {
        let mut script = String::from("exec 2>&1\n");
        for command in commands {
            script.push_str(&format!("printf '\\036'\n{command}\n"));
        }
        let output = self.run(&script, false);
        let text = String::from_utf8_lossy(&output.stdout);
        let outputs: Vec<String> = text.split('\u{1e}').skip(1).map(str::to_owned).collect();
        assert_eq!(outputs.len(), commands.len(), "{} in:\n{script}\n{text}", output.status);
        outputs
    }

    /// Panics if there is a VM.
    pub fn assert_empty(&self) {
        assert_eq!(self.ok("mayfly status --json").trim(), "[]");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // A failed test must not leave VMs behind.
        self.run(
            "for vm in $(mayfly status | tail -n +2 | cut -d ' ' -f 1); do mayfly rm -f $vm; done",
            false,
        );
    }
}
