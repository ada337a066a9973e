//! Plain types and the rules about them. Nothing here touches the operating system, so everything
//! here can be tested over every input.

pub mod command;
pub mod filter;
pub mod id;
pub mod label;
pub mod layout;
#[cfg(test)]
mod life_tests;
pub mod nearest;
pub mod platform;
pub mod process;
pub mod profile;
pub mod reconcile;
pub mod record;
pub mod refusal;
#[cfg(test)]
mod state_tests;
pub mod time;
pub mod units;

pub use command::CommandDefaults;
pub use filter::{Filter, Sort};
pub use id::{VmId, VmName, VmRef};
pub use label::{Label, LabelQuery, Labels};
pub use layout::{BootFiles, FrozenFiles, VmPaths};
pub use platform::{Accelerator, BackendChoice, BackendKind, Isolation};
pub use process::{Liveness, ProcessId};
pub use profile::{Bounds, DebianRecipe, Form, Import, Limits, Profile, Profiles, Recipe};
pub use record::{Instance, Manifest, Phase, VmRecord};
pub use refusal::{Kind, Refusal};
pub use time::{BootId, Expiry, Now};
pub use units::{MemMib, Span};
