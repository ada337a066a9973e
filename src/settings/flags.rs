//! Global flags that set where things are and what new VMs run on.

use std::path::PathBuf;

use clap::Args;

use crate::model::{Accelerator, BackendChoice};

/// The values of these flags, or else of their variables, of the files, or the built-in defaults. Each field
/// is named like its [`ConfigKey`](super::ConfigKey). Flags that exist only for their variables and keys are
/// hidden.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct SettingOverrides {
    /// Keep the registry and the VMs' disks in DIR
    ///
    /// Default: $XDG_STATE_HOME/mayfly (~/.local/state/mayfly), as root /var/lib/mayfly.
    #[arg(long, global = true, value_name = "DIR", env = "MAYFLY_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Run new VMs with this backend
    ///
    /// A VM keeps the backend it was created with.
    #[arg(
        long, global = true, value_name = "BACKEND", env = "MAYFLY_BACKEND",
        default_value_t = BackendChoice::Auto, value_enum
    )]
    pub backend: BackendChoice,

    #[arg(long, global = true, hide = true, value_name = "DIR", env = "MAYFLY_ARTIFACTS_DIR")]
    pub artifacts_dir: Option<PathBuf>,

    #[arg(long, global = true, hide = true, value_name = "DIR", env = "MAYFLY_RUNTIME_DIR")]
    pub runtime_dir: Option<PathBuf>,

    #[arg(long, global = true, hide = true, value_name = "URL", env = "MAYFLY_DEBIAN_MIRROR")]
    pub debian_mirror: Option<String>,

    #[arg(long, global = true, hide = true, value_name = "FILE", env = "MAYFLY_PROFILES")]
    pub profiles: Option<PathBuf>,

    #[arg(long, global = true, hide = true, value_enum, env = "MAYFLY_ACCEL")]
    pub accel: Option<Accelerator>,

    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "FILE",
        env = "MAYFLY_QEMU_BIN",
        default_value = "qemu-system-x86_64"
    )]
    pub qemu_bin: PathBuf,

    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "FILE",
        env = "MAYFLY_FIRECRACKER_BIN",
        default_value = "firecracker"
    )]
    pub firecracker_bin: PathBuf,

    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "FILE",
        env = "MAYFLY_JAILER_BIN",
        default_value = "jailer"
    )]
    pub jailer_bin: PathBuf,

    #[arg(long, global = true, hide = true, value_name = "N", env = "MAYFLY_MAX_ACTIVE_VMS")]
    pub max_active_vms: Option<u32>,

    #[arg(long, global = true, hide = true, value_name = "N", env = "MAYFLY_POOL")]
    pub pool: Option<u32>,
}
