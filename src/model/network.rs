//! The network of a VM: what it may reach, what reaches it, and the process that connects it.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::allow_rule::AllowRule;
use super::platform::display_as_value;
use super::process::ProcessId;
use super::published_port::PublishedPort;

/// What a VM may reach besides what its rules name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum NetworkMode {
    /// Nothing
    #[default]
    None,
    /// The internet, but not this host or its networks
    Egress,
}

display_as_value!(NetworkMode);

/// The most network that VMs may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkLimit {
    /// No network.
    None,
    /// What rules name, and published ports.
    Named,
    /// The internet, too.
    Egress,
}

display_as_value!(NetworkLimit);

/// What the frames of a line to a guest are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// Of a network card.
    Ethernet,
    /// Of a TUN interface.
    Ip,
}

/// The network that a user wants for a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSettings {
    pub mode: NetworkMode,
    pub allow: Vec<AllowRule>,
    /// A host port of 0 is chosen at each start.
    pub publish: Vec<PublishedPort>,
}

impl NetworkSettings {
    /// The least limit that permits it.
    pub fn needs(&self) -> NetworkLimit {
        match self.mode {
            NetworkMode::Egress => NetworkLimit::Egress,
            NetworkMode::None if self.is_none() => NetworkLimit::None,
            NetworkMode::None => NetworkLimit::Named,
        }
    }

    /// Whether the VM has no network at all.
    pub fn is_none(&self) -> bool {
        self.mode == NetworkMode::None && self.allow.is_empty() && self.publish.is_empty()
    }
}

/// How the network of a VM is doing. Only shown, never recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkReport {
    pub state: NetworkState,
    /// How many attempts of the guest were denied since its last start.
    pub denied: u64,
}

/// Whether a VM is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkState {
    /// It has no network, or does not run.
    #[default]
    None,
    Up,
    /// The helper of a running VM has ended.
    Lost,
}

/// The process that connects a running VM to the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkProcess {
    pub process: ProcessId,
    /// The ports that it listens on, with the real host ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<PublishedPort>,
}
