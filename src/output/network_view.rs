//! The network of a VM, as `--json` and people see it.

use std::net::SocketAddr;

use serde::Serialize;

use crate::model::{GuestPort, NetworkMode, NetworkState, PortProtocol, PublishedPort, VmRecord};

/// The network of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NetworkView {
    /// What it may reach besides what `allow` names: `none`, or `egress` for the internet.
    mode: &'static str,
    /// The rules, as given with `--allow`.
    allow: Vec<String>,
    /// The published ports.
    publish: Vec<PortView>,
    /// `up`; `lost` if its helper process has ended, which the next `exec`, `shell` or `cp` starts again; or `none`
    /// without a network, and while the VM is not running.
    state: &'static str,
    /// How many attempts of the guest were denied since its last start.
    denied: u64,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PortView {
    /// `tcp` or `udp`.
    proto: &'static str,
    /// The host's address that it is published on.
    address: String,
    /// While the VM is not running, 0 stands for a port that is chosen when it starts.
    host_port: u16,
    guest_port: u16,
}

impl From<&VmRecord> for NetworkView {
    fn from(record: &VmRecord) -> Self {
        let settings = &record.manifest.network;
        NetworkView {
            mode: match settings.mode {
                NetworkMode::None => "none",
                NetworkMode::Egress => "egress",
            },
            allow: settings.allow.iter().map(ToString::to_string).collect(),
            publish: record.published().iter().map(PortView::from).collect(),
            state: match record.network.state {
                NetworkState::Up => "up",
                NetworkState::Lost => "lost",
                NetworkState::None => "none",
            },
            denied: record.network.denied,
        }
    }
}

impl From<&PublishedPort> for PortView {
    fn from(port: &PublishedPort) -> Self {
        PortView {
            proto: match port.protocol {
                PortProtocol::Tcp => "tcp",
                PortProtocol::Udp => "udp",
            },
            address: port.address.to_string(),
            host_port: port.host_port,
            guest_port: port.guest_port,
        }
    }
}

/// A published port in one line: the guest's, and the host's that leads to it.
pub fn port_line(port: &PublishedPort) -> String {
    format!("{} -> {}", GuestPort::of(port), host_address(port))
}

/// The host's end of a published port.
pub fn host_address(port: &PublishedPort) -> String {
    let address = SocketAddr::new(port.address, port.host_port);
    match port.host_port {
        0 => format!("{address} (chosen at its start)"),
        _ => address.to_string(),
    }
}

/// What a VM's network is, in a few words.
pub(super) fn network_text(record: &VmRecord) -> String {
    let settings = &record.manifest.network;
    let mode = match settings.mode {
        NetworkMode::Egress => "egress",
        NetworkMode::None if !settings.allow.is_empty() => "only what is allowed",
        NetworkMode::None if !settings.publish.is_empty() => "only published ports",
        NetworkMode::None => return "none".into(),
    };
    match record.network.state {
        NetworkState::Up => format!("{mode}, up"),
        NetworkState::Lost => {
            format!("{mode}, lost: the next exec, shell or cp starts its helper again")
        }
        NetworkState::None => mode.into(),
    }
}

/// The same, in one word.
pub(super) fn network_word(record: &VmRecord) -> &'static str {
    match record.network.state {
        _ if record.manifest.network.is_none() => "-",
        NetworkState::Up => "up",
        NetworkState::Lost => "lost",
        NetworkState::None => "off",
    }
}
