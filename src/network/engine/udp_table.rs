//! The streams of datagrams that there are.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::key::FlowKey;
use crate::network::addresses::GATEWAY_V4;

/// The most streams of datagrams. One more ends that which was used longest ago.
const MOST: usize = 256;

pub(super) enum UdpSide {
    Connected(UdpSocket),
    /// One that came to a published port.
    Published {
        index: usize,
        client: SocketAddr,
    },
}

pub(super) struct UdpEntry {
    pub key: FlowKey,
    pub side: UdpSide,
    /// The beginning of the packet that an error would be about.
    pub quoted: Vec<u8>,
    pub used: Instant,
    pub idle: Duration,
}

/// All streams of datagrams.
#[derive(Default)]
pub(super) struct UdpTable {
    pub entries: HashMap<u64, UdpEntry>,
    pub ids: HashMap<FlowKey, u64>,
    /// Those that came to published ports.
    pub clients: HashMap<(usize, SocketAddr), u64>,
    last_port: u16,
}

impl UdpTable {
    pub fn remove(&mut self, id: u64) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.ids.remove(&entry.key);
        if let UdpSide::Published { index, client } = entry.side {
            self.clients.remove(&(index, client));
        }
    }

    /// Adds a stream, in the place of the one used longest ago if there are too many.
    pub fn insert(&mut self, id: u64, entry: UdpEntry) {
        if self.entries.len() >= MOST
            && let Some((&oldest, _)) = self.entries.iter().min_by_key(|(_, entry)| entry.used)
        {
            self.remove(oldest);
        }
        self.ids.insert(entry.key, id);
        self.entries.insert(id, entry);
    }

    /// The key of one more stream to the guest.
    pub fn gateway_key(&mut self, guest_port: u16) -> FlowKey {
        loop {
            self.last_port = self.last_port.wrapping_add(1) | 0x8000;
            let far = SocketAddr::new(GATEWAY_V4.into(), self.last_port);
            let key = FlowKey { far, guest_port };
            // There are more ports than streams.
            if !self.ids.contains_key(&key) {
                return key;
            }
        }
    }
}
