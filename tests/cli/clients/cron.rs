//! Debian's cron runs the crontab line of the documentation. Its clock is ahead, so that the line is due in two seconds
//! instead of ten minutes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::eventually;
use crate::support::programs;
use crate::support::skip::skipped;

/// The crontab line of the documentation, which is due every ten minutes.
fn documented_line() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scripting.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, block) = page.split_once("```crontab\n").expect("the page has a crontab");
    let (line, _) = block.split_once("\n```").unwrap();
    assert!(line.starts_with("*/10 * * * * ") && !line.contains('\n'), "{line}");
    line.to_owned()
}

/// Directories that are mounted over the machine's for cron.
struct World(PathBuf);

impl World {
    fn new(root: &Path) -> World {
        let world = World(root.join("world"));
        for directory in ["spool/cron/crontabs", "etc/cron.d", "etc/pam.d", "usr/sbin"] {
            fs::create_dir_all(world.0.join(directory)).unwrap();
        }
        fs::create_dir_all(world.0.join("usr/local/bin")).unwrap();
        for program in [programs::mayfly(), programs::agent()] {
            let name = program.file_name().unwrap();
            symlink(&program, world.0.join("usr/local/bin").join(name)).unwrap();
        }
        fs::copy("/usr/sbin/cron", world.0.join("usr/sbin/cron")).expect("cron is installed");
        world.file("etc/crontab", 0o644, "");
        world.file(
            "etc/pam.d/cron",
            0o644,
            "auth required pam_permit.so\naccount required pam_permit.so\n\
             session required pam_permit.so\n",
        );
        // Writes each mail to a file.
        fs::create_dir(world.0.join("mail")).unwrap();
        let mail = world.0.join("mail");
        let sendmail = format!("#!/bin/sh\ncat > {0}/.$$ && mv {0}/.$$ {0}/$$\n", mail.display());
        world.file("usr/sbin/sendmail", 0o755, &sendmail);
        world
    }

    fn file(&self, name: &str, mode: u32, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
        fs::set_permissions(self.0.join(name), Permissions::from_mode(mode)).unwrap();
    }

    fn mail(&self) -> Vec<String> {
        let letters = fs::read_dir(self.0.join("mail")).unwrap().map(|entry| entry.unwrap());
        letters
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| fs::read_to_string(entry.path()).unwrap())
            .collect()
    }
}

/// The variables that make the crontab's mayfly use this environment.
fn variables(env: &Environment) -> String {
    let runtime = env.runtime();
    format!(
        "MAILTO=root\nMAYFLY_STATE_DIR={}\nMAYFLY_RUNTIME_DIR={}\nMAYFLY_ARTIFACTS_DIR={}\n",
        env.state().display(),
        runtime.display(),
        env.artifacts().display()
    )
}

#[test]
fn the_documented_line_reaps_and_sends_mail_only_of_what_it_deleted() {
    if !geteuid().is_root() {
        return skipped("only root can make mounts");
    }
    let line = documented_line();
    let busy = Environment::mock();
    let quiet = Environment::mock();
    let current = busy.start(&[]);
    let expired = busy.start(&["--ttl", "60s"]);
    let vmm = busy.vmm(&expired);
    busy.expire(&expired);

    let world = World::new(busy.root());
    let crontab = |env: &Environment, line: &str| format!("{}{line}\n", variables(env));
    world.file("spool/cron/crontabs/root", 0o600, &crontab(&busy, &line));
    // The system's crontab, with a user in the sixth column.
    let system = line.replace("/usr/local", "root /usr/local");
    world.file("etc/cron.d/mayfly", 0o644, &crontab(&quiet, &system));

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/clients/private-cron.sh");
    let mut command = busy.client("unshare", &["--mount", "--propagation", "private", "bash"]);
    command.arg(script).arg(&world.0);
    let mut cron = Live::start(command);
    eventually("both jobs", || {
        assert!(cron.is_running(), "cron has ended: {}", cron.said());
        !world.mail().is_empty() && quiet.state().exists()
    });
    let children = format!("/proc/{0}/task/{0}/children", cron.pid());
    eventually("the jobs' end", || fs::read_to_string(&children).unwrap().is_empty());
    drop(cron);

    let [letter] = world.mail().try_into().expect("nothing to do is nothing to write of");
    let (head, body) = letter.split_once("\n\n").unwrap();
    assert!(head.contains("/usr/local/bin/mayfly reap"), "{letter}");
    assert_eq!(body, format!("deleted VM {expired}\n"));
    assert!(!crate::support::processes::lives(vmm));
    assert_eq!(busy.ids(), [current.as_str()], "what may live on does");
    busy.clear();
}
