//! Files that readers paste from the pages, checked by the programs they are for.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::blocks_of;
use super::shell::Shell;
use crate::support::skip::skipped;

/// The output of a program; `None` if this machine lacks it.
fn run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(_) => {
            skipped(&format!("{:?} is not installed", command.get_program()));
            None
        }
    }
}

#[test]
fn systemd_accepts_the_units() {
    let shell = Shell::new("mock", None);
    let blocks = blocks_of("docs/scripting.md", "bash");
    let block = blocks.iter().find(|block| block.text.contains("systemctl")).unwrap();
    // This machine's own systemd is not to be changed.
    let stubs = "systemctl() { echo \"systemctl $*\"; }; loginctl() { echo \"loginctl $*\"; }\n";
    let printed = shell.ok(&format!("{stubs}{}", block.text));
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        lines,
        [
            "systemctl --user daemon-reload",
            "systemctl --user enable --now mayfly-reap.timer",
            "loginctl enable-linger"
        ]
    );
    let units = shell.directory().join(".config/systemd/user");
    let service = units.join("mayfly-reap.service");
    let text = fs::read_to_string(&service).unwrap();
    assert!(text.contains("\nExecStart=/usr/local/bin/mayfly reap\n"), "{text}");
    // mayfly need not be installed here.
    let here = text.replace("/usr/local/bin/mayfly", env!("CARGO_BIN_EXE_mayfly"));
    fs::write(&service, here).unwrap();
    // Without a manual, its pages cannot be looked up.
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--user", "--man=no", "mayfly-reap.service", "mayfly-reap.timer"]);
    verify.current_dir(units).env("XDG_RUNTIME_DIR", shell.directory());
    let Some(output) = run(&mut verify) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    let about_these: Vec<&str> = said.lines().filter(|line| line.contains("mayfly")).collect();
    assert!(output.status.success() && about_these.is_empty(), "{output:?}");
}

#[test]
fn jobs_for_ci_are_yaml() {
    let shell = Shell::new("mock", None);
    let mut scripts = Vec::new();
    for block in blocks_of("docs/scripting.md", "yaml") {
        let file = shell.directory().join("job.yml");
        fs::write(&file, &block.text).unwrap();
        let query = "[.. | strings | select(contains(\"mayfly \"))]";
        let Some(output) = run(Command::new("yq").arg(query).arg(&file)) else { return };
        assert!(output.status.success(), "{}, line {}: {output:?}", block.page, block.line);
        let found: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
        assert!(found.iter().any(|line| line.contains("mayfly run ")), "{found:?}");
        scripts.extend(found);
    }
    assert_eq!(scripts.iter().filter(|line| line.contains("mayfly doctor")).count(), 2);
}

/// What the job for GitLab does with its cache, in a directory that everyone may write to.
#[test]
fn a_ci_job_packs_and_unpacks_its_images() {
    let shell = Shell::new("mock", None);
    let [job, _] = blocks_of("docs/scripting.md", "yaml").try_into().unwrap();
    let line = |start: &str| {
        let start = format!("- {start}");
        let found = job.text.lines().find_map(|line| line.trim().strip_prefix(&start));
        format!("{}{}", &start[2..], found.unwrap_or_else(|| panic!("no line begins {start:?}")))
    };
    let pack = line("tar -C \"$HOME/mayfly-images\"");
    let unpack = [line("export "), line("mkdir "), line("if ["), line("rm ")].join("\n");
    let script = format!(
        "umask 0; mkdir project; cd project
         mkdir -m 700 ~/mayfly-images ~/mayfly-images/templates ~/mayfly-images/debian-base
         truncate -s 1G ~/mayfly-images/debian-base/rootfs.ext4
         touch ~/mayfly-images/templates/old
         {pack}
         rm -r ~/mayfly-images
         {unpack}
         ls; ls \"$MAYFLY_ARTIFACTS_DIR\"; mayfly image ls
         test $(du -k ~/mayfly-images/debian-base/rootfs.ext4 | cut -f 1) -lt 1000"
    );
    let printed = shell.ok(&script);
    assert!(printed.starts_with("debian-base\nPROFILE "), "{printed}");
    assert!(Path::new(&shell.directory()).join("mayfly-images").is_dir());
}
