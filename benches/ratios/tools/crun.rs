//! crun, with a container that contains the host's programs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mayfly::host::which;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::quiet;
use crate::workspace::timed;

/// Where hosts with both versions of control groups mount the second. crun refuses to set limits on such a
/// host.
const CGROUP_V2: &str = "/sys/fs/cgroup/unified";

/// A bundle whose container can be run any number of times.
pub struct Crun {
    program: PathBuf,
    bundle: PathBuf,
}

impl Crun {
    /// Makes the bundle from crun's example configuration, with the host's `/usr` and the command `true`.
    pub fn prepare(program: PathBuf, bundle: PathBuf) -> Result<Crun> {
        let root = bundle.join("rootfs");
        for directory in ["usr", "proc", "dev", "sys"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let file = bundle.join("config.json");
        let path = file.to_str().context("the bundle's path is not UTF-8")?;
        let mut spec = vec!["spec", "--file", path];
        if !geteuid().is_root() {
            spec.push("--rootless");
        }
        which::output(&program, &spec)?;
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["true"]);
        let mounts = config["mounts"].as_array_mut().context("no mounts in crun's example")?;
        let mut bind = |place: &str| {
            let options = ["rbind", "ro"];
            mounts.push(
                json!({ "destination": place, "type": "bind", "source": place, "options": options }),
            );
        };
        bind("/usr");
        for name in ["bin", "lib", "lib64"] {
            let place = Path::new("/").join(name);
            match fs::read_link(&place) {
                Ok(target) => symlink(target, root.join(name))?,
                Err(_) if place.is_dir() => {
                    fs::create_dir(root.join(name))?;
                    bind(&format!("/{name}"));
                }
                Err(_) => {}
            }
        }
        fs::write(&file, config.to_string())?;
        Ok(Crun { program, bundle })
    }

    /// Runs the container, and returns the milliseconds it took.
    pub fn run(&self) -> Result<f64> {
        let mut command = quiet(&self.program);
        // Without control groups, which take time to make and delete.
        command.arg("--cgroup-manager=disabled").arg("--root").arg(self.bundle.join("state"));
        command.arg("run").arg("--bundle").arg(&self.bundle).arg("bench");
        // In a thread, because a thread can have its own mount namespace.
        std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                hide_cgroup_v2()?;
                timed(&mut command)
            });
            running.join().expect("the thread panicked")
        })
    }
}

/// Hides the second version of control groups from this thread and its children if the host has both.
fn hide_cgroup_v2() -> Result<()> {
    if geteuid().is_root() && Path::new(CGROUP_V2).exists() {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        umount(CGROUP_V2)?;
    }
    Ok(())
}
