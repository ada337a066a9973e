//! Plain types and the rules about them. Nothing here touches the operating system, so all of it can be
//! tested with every input.

pub mod allow_rule;
pub mod check;
pub mod command;
pub mod dns_name;
pub mod filter;
pub mod id;
pub mod image_reference;
pub mod key_places;
pub mod label;
pub mod layout;
#[cfg(test)]
mod life_tests;
pub mod manifest;
pub mod name_list;
pub mod nearest;
pub mod network;
pub mod phase;
pub mod platform;
pub mod pool_kind;
pub mod process;
pub mod profile;
pub mod profile_name;
pub mod published_port;
pub mod reconcile;
pub mod record;
pub mod refusal;
#[cfg(test)]
pub mod state_tests;
pub mod time;
pub mod units;

pub use allow_rule::{AddressRange, AllowRule, AllowTarget};
pub use check::{CheckVerdict, HostCheck};
pub use command::CommandDefaults;
pub use dns_name::DnsName;
pub use filter::{StatusFilter, StatusSort};
pub use id::{VmId, VmName, VmRef};
pub use image_reference::ImageReference;
pub use key_places::KeyPlaces;
pub use label::{LabelQuery, VmLabel, VmLabels};
pub use layout::{BootFiles, FrozenFiles, VmPaths};
pub use manifest::{VmInstance, VmManifest};
pub use name_list::listed;
pub use network::{
    LinkKind, NetworkLimit, NetworkMode, NetworkProcess, NetworkReport, NetworkSettings,
    NetworkState,
};
pub use phase::VmPhase;
pub use platform::{Accelerator, BackendChoice, BackendKind, Isolation};
pub use pool_kind::PoolKind;
pub use process::{ProcessId, ProcessLiveness, ProcessPlace};
pub use profile::{
    DebianRecipe, ImageRecipe, ImportRecipe, Profile, ProfileSet, PullRecipe, RootfsFormat,
    ValueRange, VmLimits,
};
pub use profile_name::ProfileName;
pub use published_port::{GuestPort, PortProtocol, PublishedPort};
pub use record::VmRecord;
pub use refusal::{QuotedOutput, Refusal, RefusalKind};
pub use time::{BootId, ClockReading, VmExpiry};
pub use units::{MemMib, TimeSpan};
