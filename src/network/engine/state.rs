//! Everything that a helper has.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::event::epoll::{self, EventFlags};

use super::dns_desk::DnsDesk;
use super::key::EngineKey;
use super::repeated_errors::RepeatedErrors;
use super::tcp_table::TcpTable;
use super::udp_table::UdpTable;
use crate::model::PortProtocol;
use crate::network::denials::DenialLog;
use crate::network::line::{LineReader, LineWriter};
use crate::network::names::NameTable;
use crate::network::order::{NetworkOrder, inherited};
use crate::network::policy::NetworkPolicy;
use crate::network::routes::HostRoutes;
use crate::network::timers::DueTimes;
use crate::sys::nonblocking::set_nonblocking;

/// Descriptors for everything but the guest's TCP connections.
const OTHER_FILES: usize = 400;

#[derive(Debug)]
pub(super) enum PublishedEnd {
    Listener(TcpListener, u16),
    Datagrams(UdpSocket, u16),
}

/// Everything of one helper.
pub struct NetworkEngine {
    pub(super) line: OwnedFd,
    pub(super) line_readable: bool,
    pub(super) reader: LineReader,
    pub(super) out: LineWriter,
    pub(super) epoll: OwnedFd,
    pub(super) timers: DueTimes<EngineKey>,
    last_id: u64,
    pub(super) policy: NetworkPolicy<HostRoutes>,
    pub(super) names: NameTable,
    pub(super) denials: DenialLog,
    pub(super) published: Vec<PublishedEnd>,
    pub(super) tcp: TcpTable,
    pub(super) udp: UdpTable,
    pub(super) dns: DnsDesk,
    pub(super) repeated_errors: RepeatedErrors,
}

impl NetworkEngine {
    /// Takes over the descriptors of an order. `open_files` is the limit on them.
    ///
    /// # Errors
    /// One of them is not open.
    pub fn new(order: NetworkOrder, open_files: u64) -> Result<NetworkEngine> {
        let now = Instant::now();
        let line = inherited(order.line).context("cannot take over the line")?;
        set_nonblocking(&line).context("cannot make the line non-blocking")?;
        let events =
            order.events.map(inherited).transpose().context("cannot take over the events")?;
        let mut published = Vec::new();
        for publish in &order.publish {
            let socket = inherited(publish.socket).context("cannot take over a published port")?;
            set_nonblocking(&socket).context("cannot make a published port non-blocking")?;
            published.push(match publish.protocol {
                PortProtocol::Tcp => PublishedEnd::Listener(socket.into(), publish.guest_port),
                PortProtocol::Udp => PublishedEnd::Datagrams(socket.into(), publish.guest_port),
            });
        }
        let policy = NetworkPolicy::new(order.mode, order.allow, HostRoutes::open());
        let mut names = NameTable::default();
        for name in policy.exact_names() {
            names.address_of(name, now);
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        let engine = NetworkEngine {
            line,
            line_readable: true,
            reader: LineReader::default(),
            out: LineWriter::new(order.link),
            epoll,
            timers: DueTimes::default(),
            last_id: 0,
            policy,
            names,
            denials: DenialLog::new(events.map(File::from), now),
            published,
            tcp: TcpTable::new(usize::try_from(open_files)?.saturating_sub(OTHER_FILES)),
            udp: UdpTable::default(),
            dns: DnsDesk::new(order.resolvers, order.search, order.hostname),
            repeated_errors: RepeatedErrors::default(),
        };
        let both = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        engine.watch(&engine.line, EngineKey::Line, both)?;
        for (index, end) in engine.published.iter().enumerate() {
            let fd = match end {
                PublishedEnd::Listener(listener, _) => listener.as_fd(),
                PublishedEnd::Datagrams(socket, _) => socket.as_fd(),
            };
            engine.watch(fd, EngineKey::Published(index), EventFlags::IN)?;
        }
        Ok(engine)
    }

    pub(super) fn watch(&self, fd: impl AsFd, key: EngineKey, events: EventFlags) -> Result<()> {
        epoll::add(&self.epoll, fd, key.encode(), events).context("cannot watch a descriptor")
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}
