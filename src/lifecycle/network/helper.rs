//! Starting the network helper of a VM.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::ports::BoundPorts;
use crate::host::launcher::{
    self, GatedChild, HostUser, LaunchBounds, LaunchProgram, LaunchSpec, ReleasedChild,
};
use crate::host::{log, process};
use crate::lifecycle::manager::VmManager;
use crate::model::{LinkKind, NetworkProcess, Refusal, RefusalKind, VmManifest};
use crate::network;
use crate::network::order::{NetworkOrder, PublishedSocket};
use crate::network::resolv_conf::{RESOLV_CONF, ResolverConfig};
use crate::sys::process::PidFd;

/// A helper that waits to be recorded.
#[derive(Debug)]
pub struct NetworkHelper {
    pub record: NetworkProcess,
    gated: GatedChild,
}

impl NetworkHelper {
    /// Starts a helper that waits until [`NetworkHelper::release`]. `line` leads to the guest.
    ///
    /// # Errors
    /// The host's.
    pub fn spawn(
        manager: &VmManager,
        manifest: &VmManifest,
        link: LinkKind,
        line: UnixStream,
        ports: &BoundPorts,
    ) -> Result<NetworkHelper> {
        line.set_nonblocking(true)?;
        // It continues the log of an earlier helper of the same start.
        let log = log::open_to_append(&manager.paths(&manifest.vm_id).network_log())?;
        let mut files = Vec::new();
        let mut keep = |file: OwnedFd| -> RawFd {
            let number = file.as_raw_fd();
            files.push(file);
            number
        };
        let resolvers = ResolverConfig::parse(&fs::read_to_string(RESOLV_CONF).unwrap_or_default());
        let mut publish = Vec::new();
        for (port, socket) in &ports.sockets {
            let socket = socket.try_clone().context("cannot share a published port")?;
            publish.push(PublishedSocket {
                socket: keep(socket),
                protocol: port.protocol,
                guest_port: port.guest_port,
            });
        }
        let order = NetworkOrder {
            line: keep(line.into()),
            link,
            mode: manifest.network.mode,
            allow: manifest.network.allow.clone(),
            publish,
            resolvers: resolvers.servers,
            search: resolvers.search,
            hostname: manifest.hostname().parse().ok(),
            events: Some(keep(log.try_clone().context("cannot share the log")?.into())),
        };
        let number = keep(order.to_file()?);
        let user = manifest.network_uid.map(|uid| HostUser { uid, gid: uid, groups: Vec::new() });
        let program = LaunchProgram {
            path: PathBuf::from("/proc/self/exe"),
            args: vec![network::ARGUMENT.into(), number.to_string()],
            cwd: PathBuf::from("/"),
            user,
            bounds: LaunchBounds {
                file_size: Some(log::MAX_BYTES),
                is_stopped_by_owner: manifest.is_stopped_by_owner(),
                ..LaunchBounds::default()
            },
            ..LaunchProgram::default()
        };
        let launch = LaunchSpec { program, files, output: None, log };
        let gated = launcher::spawn(launch, Some(&manager.mark(&manifest.vm_id)?))?;
        let record = NetworkProcess { process: gated.process.clone(), published: ports.ports() };
        Ok(NetworkHelper { record, gated })
    }

    /// Lets the helper serve. Its identity must be on record.
    ///
    /// # Errors
    /// It has ended.
    pub fn release(self) -> Result<(PidFd, ReleasedChild)> {
        let process = process::open(&self.record.process)?
            .ok_or_else(|| Refusal::new(RefusalKind::Host, "the network helper ended at once"))?;
        Ok((process, self.gated.release()?))
    }
}
