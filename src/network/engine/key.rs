//! What connections, events and times are known by.

use std::net::SocketAddr;

use rustix::event::epoll::EventData;

/// A connection or a stream of datagrams, as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    pub far: SocketAddr,
    pub guest_port: u16,
}

/// What an event or a time is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum EngineKey {
    Line,
    /// By its place in the order.
    Published(usize),
    Tcp(u64),
    Udp(u64),
    Dns(u64),
    /// An error that is told again.
    RepeatedError(u64),
}

impl EngineKey {
    pub fn encode(self) -> EventData {
        let (kind, id) = match self {
            EngineKey::Line => (0, 0),
            EngineKey::Published(index) => (1, index as u64),
            EngineKey::Tcp(id) => (2, id),
            EngineKey::Udp(id) => (3, id),
            EngineKey::Dns(id) => (4, id),
            EngineKey::RepeatedError(id) => (5, id),
        };
        EventData::new_u64(id << 3 | kind)
    }

    pub fn decode(data: EventData) -> EngineKey {
        let id = data.u64() >> 3;
        match data.u64() & 7 {
            0 => EngineKey::Line,
            1 => EngineKey::Published(id as usize),
            2 => EngineKey::Tcp(id),
            3 => EngineKey::Udp(id),
            4 => EngineKey::Dns(id),
            _ => EngineKey::RepeatedError(id),
        }
    }
}
