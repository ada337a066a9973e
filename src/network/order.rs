//! What a helper is started with.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, ensure};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use serde::{Deserialize, Serialize};

use crate::model::{AllowRule, DnsName, LinkKind, NetworkMode, PortProtocol};

/// Everything that a helper must know. The descriptors are open in it under these numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkOrder {
    /// A stream socket to the guest.
    pub line: RawFd,
    pub link: LinkKind,
    pub mode: NetworkMode,
    pub allow: Vec<AllowRule>,
    pub publish: Vec<PublishedSocket>,
    /// The servers that names are looked up with.
    pub resolvers: Vec<SocketAddr>,
    /// What is tried after a name without a dot.
    pub search: Vec<DnsName>,
    /// The guest's own name.
    pub hostname: Option<DnsName>,
    /// Where lines of [`super::denials::NetworkEvent`] are written.
    pub events: Option<RawFd>,
}

/// A socket of the host that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedSocket {
    /// One that listens, or a bound one for datagrams.
    pub socket: RawFd,
    pub protocol: PortProtocol,
    pub guest_port: u16,
}

impl NetworkOrder {
    /// The order as a file, whose number is the helper's argument.
    ///
    /// # Errors
    /// The kernel is out of memory.
    pub fn to_file(&self) -> Result<OwnedFd> {
        let file = memfd_create("network", MemfdFlags::CLOEXEC).context("cannot make a file")?;
        let mut file = File::from(file);
        file.write_all(&serde_json::to_vec(self)?).context("cannot write the order")?;
        file.rewind().context("cannot rewind the order")?;
        Ok(file.into())
    }

    /// Reads an order, and closes its file.
    ///
    /// # Errors
    /// It is incomplete, or no order.
    pub fn from_file(file: OwnedFd) -> Result<NetworkOrder> {
        let mut text = Vec::new();
        File::from(file).read_to_end(&mut text).context("cannot read the order")?;
        serde_json::from_slice(&text).context("cannot parse the order")
    }
}

/// Takes over a descriptor that this process was started with.
///
/// # Errors
/// It is not open, is a standard stream, or was taken over before.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    ensure!(number > 2, "descriptor {number} is a standard stream");
    // SAFETY: only its flags are read and set; one that is not open gives EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags =
        fcntl_getfd(borrowed).with_context(|| format!("descriptor {number} is not open"))?;
    // Those that are inherited lack the flag, and those that are taken over or opened here have it.
    ensure!(!flags.contains(FdFlags::CLOEXEC), "descriptor {number} is not inherited");
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).context("cannot mark a descriptor")?;
    // SAFETY: it is open and, as its flag was missing, nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
