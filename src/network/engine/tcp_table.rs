//! The TCP connections that there are.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpStream};

use super::key::FlowKey;
use crate::model::DnsName;
use crate::network::addresses::GATEWAY_V4;
use crate::network::dns_stream::DnsStream;
use crate::network::tcp_flow::TcpFlow;

/// The most connections.
const MOST: usize = 1024;
/// Bytes of both buffers of all connections.
const BUDGET: usize = 64 << 20;
/// A buffer, and one of a connection for which half of the budget is no longer there.
const BUFFER: usize = 64 << 10;
const SMALL_BUFFER: usize = 16 << 10;
/// Ports of the gateway that connections to the guest come from.
const GATEWAY_PORTS: std::ops::RangeInclusive<u16> = 32_768..=65_535;

pub(super) enum TcpState {
    /// The name is looked up.
    Resolving {
        syn: Vec<u8>,
        name: DnsName,
    },
    Connecting {
        syn: Vec<u8>,
        stream: TcpStream,
        others: Vec<SocketAddr>,
    },
    Open {
        flow: Box<TcpFlow>,
        buffer: usize,
    },
}

pub(super) struct TcpEntry {
    pub key: FlowKey,
    pub state: TcpState,
    pub is_ready: bool,
}

/// All TCP connections. Their buffers exist only while they are open.
pub(super) struct TcpTable {
    pub entries: HashMap<u64, TcpEntry>,
    pub ids: HashMap<FlowKey, u64>,
    /// Those that can move something.
    pub ready: VecDeque<u64>,
    free: usize,
    most: usize,
    last_port: u16,
}

impl TcpTable {
    pub fn new(most: usize) -> TcpTable {
        TcpTable {
            entries: HashMap::new(),
            ids: HashMap::new(),
            ready: VecDeque::new(),
            free: BUDGET,
            most: most.min(MOST),
            last_port: *GATEWAY_PORTS.end(),
        }
    }

    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.most
    }

    pub fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    pub fn make_ready(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id)
            && !std::mem::replace(&mut entry.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// The queries of a connection to the gateway.
    pub fn dns_stream(&mut self, id: u64) -> Option<&mut DnsStream> {
        match &mut self.entries.get_mut(&id)?.state {
            TcpState::Open { flow, .. } => {
                // For the answer that is about to be there.
                flow.readable = true;
                flow.dns()
            }
            _ => None,
        }
    }

    pub fn insert(&mut self, id: u64, key: FlowKey, state: TcpState) {
        self.entries.insert(id, TcpEntry { key, state, is_ready: false });
        self.ids.insert(key, id);
    }

    /// The size of the buffers of one more connection, which take a part of the budget.
    pub fn take_buffers(&mut self) -> usize {
        let size = if self.free > BUDGET / 2 { BUFFER } else { SMALL_BUFFER };
        self.free = self.free.saturating_sub(2 * size);
        size
    }

    pub fn give_buffers(&mut self, size: usize) {
        self.free += 2 * size;
    }

    /// The key of one more connection to the guest.
    pub fn gateway_key(&mut self, guest_port: u16) -> FlowKey {
        loop {
            let is_last = self.last_port == *GATEWAY_PORTS.end();
            self.last_port = if is_last { *GATEWAY_PORTS.start() } else { self.last_port + 1 };
            let far = SocketAddr::new(GATEWAY_V4.into(), self.last_port);
            let key = FlowKey { far, guest_port };
            // There are more ports than connections.
            if !self.ids.contains_key(&key) {
                return key;
            }
        }
    }
}
