//! The helper's loop: it waits for the guest and for sockets of the host, and lets none of them wait for another.

mod dns;
mod dns_desk;
mod judge;
mod key;
mod repeated_errors;
mod state;
mod tcp;
mod tcp_table;
mod udp;
mod udp_table;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol};

use self::key::EngineKey;
pub use self::state::NetworkEngine;
use self::state::PublishedEnd;
use super::addresses::guest_for;
use super::line::LineWriter;
use super::packet::{IpPacket, answer_arp};
use crate::model::LinkKind;

/// How many events are taken at once.
const EVENTS: usize = 128;
/// How often the line is read before everything else has its turn.
const READS: usize = 16;
/// The longest wait. Longer ones would need another system call.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl NetworkEngine {
    /// Serves the guest until its line ends.
    ///
    /// # Errors
    /// The line is broken, or the kernel is out of memory.
    pub fn run(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            while let Some(key) = self.timers.next_due(now) {
                self.due(key, now);
            }
            if !self.receive(now)? {
                return Ok(());
            }
            self.tcp_work(now);
            if self.out.flush(&self.line).is_err() {
                // The other end is gone.
                return Ok(());
            }
            self.wait(&mut events)?;
        }
    }

    /// Takes a frame of the guest. For tests; [`NetworkEngine::run`] reads them from the line.
    pub fn take_frame(&mut self, frame: &[u8]) -> Vec<u8> {
        let now = Instant::now();
        self.frame(frame, now);
        self.tcp_work(now);
        let sent = self.out.pending().to_vec();
        self.out = LineWriter::new(self.out.link());
        sent
    }

    /// Waits for events, but not if something can be done without.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> Result<()> {
        let now = Instant::now();
        let can_go_on = self.out.has_room() && (self.line_readable || self.tcp.has_work());
        let next = [self.timers.next_time(), self.denials.count(now)].into_iter().flatten().min();
        let left = match next {
            _ if can_go_on => Duration::ZERO,
            Some(at) => at.saturating_duration_since(now).min(LONGEST_WAIT),
            None => LONGEST_WAIT,
        };
        // Rounded up, so that what is due then is due when the wait ends.
        let left = Duration::from_millis(left.as_micros().div_ceil(1000) as u64);
        let timeout = Timespec::try_from(left).context("cannot wait that long")?;
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => bail!("cannot wait for events: {errno}"),
        }
        let now = Instant::now();
        for event in events.drain(..) {
            self.event(EngineKey::decode(event.data), event.flags, now);
        }
        Ok(())
    }

    fn event(&mut self, key: EngineKey, flags: EventFlags, now: Instant) {
        let ended = EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP;
        let readable = flags.intersects(EventFlags::IN | ended);
        let writable = flags.intersects(EventFlags::OUT | ended);
        match key {
            EngineKey::Line => self.line_readable |= readable,
            EngineKey::Published(index) => match &self.published[index] {
                PublishedEnd::Listener(..) => self.tcp_accept(index),
                PublishedEnd::Datagrams(..) => self.udp_published(index, now),
            },
            EngineKey::Tcp(id) => self.tcp_event(id, readable, writable, now),
            EngineKey::Udp(id) => self.udp_event(id, now),
            EngineKey::Dns(id) => self.dns_event(id, now),
            EngineKey::RepeatedError(_) => {}
        }
    }

    fn due(&mut self, key: EngineKey, now: Instant) {
        match key {
            EngineKey::Tcp(id) => self.tcp.make_ready(id),
            EngineKey::Udp(id) => self.udp_due(id, now),
            EngineKey::Dns(id) => self.dns_due(id, now),
            EngineKey::RepeatedError(id) => self.repeated_error_due(id, now),
            EngineKey::Line | EngineKey::Published(_) => {}
        }
    }

    /// Reads frames while there is room for answers. Returns whether the line is still there.
    fn receive(&mut self, now: Instant) -> Result<bool> {
        let mut reader = std::mem::take(&mut self.reader);
        for _ in 0..READS {
            if !self.line_readable || !self.out.has_room() {
                break;
            }
            match reader.fill(&self.line) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.line_readable = false,
                    ErrorKind::Interrupted => {}
                    // The other end is gone.
                    _ => return Ok(false),
                },
            }
            loop {
                match reader.next_frame() {
                    Ok(Some(frame)) => self.frame(frame, now),
                    Ok(None) => break,
                    Err(broken) => bail!("a frame of {} bytes came from the guest", broken.length),
                }
            }
        }
        self.reader = reader;
        Ok(true)
    }

    fn frame(&mut self, frame: &[u8], now: Instant) {
        if self.out.link() == LinkKind::Ip {
            return self.packet(frame, now);
        }
        let Ok(frame) = EthernetFrame::new_checked(frame) else { return };
        if frame.src_addr().is_unicast() {
            self.out.set_guest(frame.src_addr());
        }
        match frame.ethertype() {
            EthernetProtocol::Arp => answer_arp(frame.payload(), &mut self.out),
            EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => self.packet(frame.payload(), now),
            EthernetProtocol::Unknown(_) => {}
        }
    }

    fn packet(&mut self, bytes: &[u8], now: Instant) {
        let Some(packet) = IpPacket::parse(bytes) else { return };
        if packet.answer_by_gateway(&mut self.out) || packet.source != guest_for(packet.source) {
            return;
        }
        match packet.protocol {
            IpProtocol::Tcp => self.tcp_packet(&packet, now),
            IpProtocol::Udp => self.udp_packet(&packet, now),
            IpProtocol::Icmp | IpProtocol::Icmpv6 => self.refuse_echo(&packet, now),
            _ => {}
        }
    }
}
