//! Where a VM runs: backends, accelerators, and the isolation they give.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The program that runs VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum BackendKind {
    Firecracker,
    Qemu,
    Mock,
}

/// Which backend a user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum BackendChoice {
    /// The best one that works here; never mock.
    #[default]
    Auto,
    /// Firecracker's microVMs, which need hardware virtualization.
    Firecracker,
    /// QEMU, with KVM if the host has it, and emulation otherwise.
    Qemu,
    /// No VM: commands are plain host processes, without any isolation.
    Mock,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Accelerator {
    /// The host's hardware virtualization.
    Kvm,
    /// Pure emulation; works everywhere.
    Tcg,
    /// Nothing: a plain host process.
    None,
}

/// What a user may rely on, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Isolation {
    /// A plain host process, no VM.
    None,
    /// A kernel of its own, but no security boundary.
    Emulated,
    /// A kernel of its own, isolated by the CPU.
    Hardware,
}

impl Accelerator {
    /// The isolation of a VM with this accelerator.
    pub fn isolation(self) -> Isolation {
        match self {
            Accelerator::Kvm => Isolation::Hardware,
            Accelerator::Tcg => Isolation::Emulated,
            Accelerator::None => Isolation::None,
        }
    }
}

macro_rules! display_as_value {
    ($($t:ty),*) => {$(
        impl std::fmt::Display for $t {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.to_possible_value().expect("no variant is skipped").get_name())
            }
        }
    )*};
}
pub(super) use display_as_value;

display_as_value!(BackendChoice, BackendKind, Accelerator, Isolation);
