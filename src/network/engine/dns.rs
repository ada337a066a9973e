//! The guest's questions for names, and those of the helper itself.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use simple_dns::{QTYPE, TYPE};

use super::dns_desk::{DnsClient, DnsTask, NameLookup, NameWaiter};
use super::key::{EngineKey, FlowKey};
use super::state::NetworkEngine;
use crate::model::{DnsName, NetworkMode};
use crate::network::addresses::guest_for;
use crate::network::denials::{AttemptKind, DeniedAttempt, printable};
use crate::network::dns_message::{self, AddressAnswer, DnsQuery, OwnAnswer};
use crate::network::exchange::DnsExchange;
use crate::network::names::TIME_TO_LIVE;
use crate::network::packet::{IpPacket, send_datagram};
use crate::network::policy::DenyReason;
use crate::sys::random;

/// The most questions to resolvers at once.
const MOST: usize = 64;
/// The most of the guest's questions that wait for one name. Those beyond are lost.
const MOST_WAITING: usize = 64;
/// The most addresses of a name that are kept.
const MOST_ADDRESSES: usize = 16;
/// Addresses are used for at least this long, so that the connection that follows a question needs no other one.
const LEAST_FRESH: Duration = Duration::from_secs(5);

/// `name` without the labels of a service, such as `_https._tcp`; `None` if it has none.
fn without_service(name: &DnsName) -> Option<DnsName> {
    let mut rest = name.as_str();
    while rest.starts_with('_') {
        rest = rest.split_once('.')?.1;
    }
    (rest != name.as_str()).then(|| rest.parse().ok()).flatten()
}

impl NetworkEngine {
    /// Answers a question of the guest, now or when a resolver has.
    pub(super) fn dns_query(&mut self, client: DnsClient, message: &[u8], now: Instant) {
        let Some(query) = DnsQuery::parse(message) else {
            return self.dns_reply(client, dns_message::refusal(message).as_deref());
        };
        if query.kind == QTYPE::ANY {
            return self.dns_answer(client, &query, OwnAnswer::Refused);
        }
        if let Some(name) = self.dns_pointer(&query, now) {
            return self.dns_answer(client, &query, OwnAnswer::Pointer(name));
        }
        if let Some(answer) = query.name.as_ref().and_then(|name| self.dns.local(name)) {
            return self.dns_answer(client, &query, answer);
        }
        if self.policy.mode() == NetworkMode::Egress {
            return self.dns_relay(client, query, now);
        }
        let Some(name) = query.name.clone() else {
            return self.dns_deny(client, &query, now);
        };
        if query.kind == QTYPE::TYPE(TYPE::PTR) {
            // Programs ask for the names of addresses that they already have; nothing was attempted that a rule could allow.
            return self.dns_answer(client, &query, OwnAnswer::NoSuchName);
        }
        let is_listed = self.policy.knows_name(&name);
        let is_service =
            || without_service(&name).is_some_and(|name| self.policy.knows_name(&name));
        match query.kind {
            QTYPE::TYPE(TYPE::TXT | TYPE::SRV | TYPE::MX) if is_listed || is_service() => {
                self.dns_relay(client, query, now);
            }
            _ if !is_listed => self.dns_deny(client, &query, now),
            QTYPE::TYPE(TYPE::A | TYPE::AAAA) => {
                self.resolve(&name, NameWaiter::Query(client, query), now);
            }
            // Others contain addresses, or names that no rule allows.
            _ => self.dns_answer(client, &query, OwnAnswer::Addresses(None, None)),
        }
    }

    /// The name at an address of our own, if it is asked for.
    fn dns_pointer(&mut self, query: &DnsQuery, now: Instant) -> Option<DnsName> {
        let address = query.pointer_address()?;
        self.dns.local_pointer(address).or_else(|| self.names.name_at(address, now))
    }

    fn dns_deny(&mut self, client: DnsClient, query: &DnsQuery, now: Instant) {
        let to = printable(&query.spelled);
        let allow = query.name.as_ref().map(DnsName::to_string);
        let (kind, reason) = (AttemptKind::Name, DenyReason::NotAllowed);
        self.denials.deny(DeniedAttempt { kind, to, reason, allow }, now);
        self.dns_answer(client, query, OwnAnswer::NoSuchName);
    }

    fn dns_answer(&mut self, client: DnsClient, query: &DnsQuery, answer: OwnAnswer) {
        self.dns_reply(client, Some(&query.answer(answer, TIME_TO_LIVE)));
    }

    fn dns_reply(&mut self, client: DnsClient, message: Option<&[u8]>) {
        match client {
            DnsClient::Datagram(FlowKey { far, guest_port }) => {
                let to = SocketAddr::new(guest_for(far.ip()), guest_port);
                if let Some(message) = message {
                    send_datagram(&mut self.out, far, to, message);
                }
            }
            DnsClient::Stream(id) => {
                if let Some(stream) = self.tcp.dns_stream(id) {
                    stream.answer(message);
                    self.tcp.make_ready(id);
                }
            }
        }
    }

    fn dns_relay(&mut self, client: DnsClient, query: DnsQuery, now: Instant) {
        let over_tcp = matches!(client, DnsClient::Stream(_));
        let id = random_id();
        let message = query.forwarded(id);
        self.dns_ask(DnsTask::Relay { client, query }, id, &message, over_tcp, now);
    }

    /// Sees to it that `waiter` goes on when the addresses of a name that a rule allows are known.
    pub(super) fn resolve(&mut self, name: &DnsName, waiter: NameWaiter, now: Instant) {
        let is_full = self.names.address_of(name, now).is_none();
        if is_full || self.names.resolved(name, now).is_some() {
            return self.name_resolved(name, waiter, OwnAnswer::Failure, now);
        }
        if let Some(waiting) = self.dns.waiting.get_mut(name) {
            // Connections have a bound of their own.
            if waiting.len() < MOST_WAITING || matches!(waiter, NameWaiter::Tcp(_)) {
                waiting.push(waiter);
            }
            return;
        }
        self.dns.waiting.insert(name.clone(), vec![waiter]);
        let mut others = vec![name.clone()];
        if !name.as_str().contains('.') {
            others.extend(self.dns.search.iter().rev().filter_map(|end| name.with_suffix(end)));
        }
        let asked = others.pop().unwrap_or_else(|| name.clone());
        self.dns_look_up(NameLookup { name: name.clone(), asked, others, kind: TYPE::A }, now);
    }

    fn dns_look_up(&mut self, lookup: NameLookup, now: Instant) {
        let id = random_id();
        let message = dns_message::query(lookup.asked.as_str(), QTYPE::TYPE(lookup.kind), id);
        self.dns_ask(DnsTask::Lookup(lookup), id, &message, false, now);
    }

    fn dns_ask(&mut self, task: DnsTask, id: u16, message: &[u8], over_tcp: bool, now: Instant) {
        let servers = &self.dns.servers;
        let exchange = match self.dns.tasks.len() {
            ..MOST => DnsExchange::begin(servers, message, over_tcp, 0, now),
            _ => None,
        };
        self.dns_wait(task, id, exchange, now);
    }

    /// Waits for the answer to a question that was asked, or gives up if it could not be.
    fn dns_wait(&mut self, task: DnsTask, id: u16, exchange: Option<DnsExchange>, now: Instant) {
        let key = self.new_id();
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        match exchange {
            Some(exchange) if self.watch(&exchange, EngineKey::Dns(key), events).is_ok() => {
                self.timers.set(EngineKey::Dns(key), exchange.deadline);
                self.dns.tasks.insert(key, (task, id, exchange));
            }
            _ => self.dns_failed(task, now),
        }
    }

    fn dns_failed(&mut self, task: DnsTask, now: Instant) {
        match task {
            DnsTask::Relay { client, query } => self.dns_answer(client, &query, OwnAnswer::Failure),
            DnsTask::Lookup(lookup) => self.lookup_ended(&lookup.name, OwnAnswer::Failure, now),
        }
    }

    pub(super) fn dns_event(&mut self, key: u64, now: Instant) {
        while let Some((task, id, exchange)) = self.dns.tasks.get_mut(&key) {
            match exchange.proceed() {
                Ok(message) => {
                    if !is_answer(task, *id, &message) {
                        // Another sender has guessed.
                        continue;
                    }
                    let Some((task, id, exchange)) = self.dns_take(key) else { return };
                    return self.dns_answered(task, id, &exchange, &message, now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.dns_again(key, now),
            }
        }
    }

    pub(super) fn dns_due(&mut self, key: u64, now: Instant) {
        self.dns_again(key, now);
    }

    fn dns_take(&mut self, key: u64) -> Option<(DnsTask, u16, DnsExchange)> {
        self.timers.forget(EngineKey::Dns(key));
        self.dns.tasks.remove(&key)
    }

    /// Asks the next server.
    fn dns_again(&mut self, key: u64, now: Instant) {
        if let Some((task, id, exchange)) = self.dns_take(key) {
            let next = exchange.again(&self.dns.servers, now);
            self.dns_wait(task, id, next, now);
        }
    }

    fn dns_answered(
        &mut self,
        task: DnsTask,
        id: u16,
        exchange: &DnsExchange,
        message: &[u8],
        now: Instant,
    ) {
        let mut lookup = match task {
            DnsTask::Relay { client, query } => {
                let relayed = query.relayed(message, id);
                return self.dns_reply(client, relayed.as_deref());
            }
            DnsTask::Lookup(lookup) => lookup,
        };
        let answer = dns_message::addresses(message, &lookup.asked, lookup.kind, id);
        match answer.unwrap_or(AddressAnswer::Failed) {
            AddressAnswer::Found(addresses, _)
                if addresses.is_empty() && lookup.kind == TYPE::A =>
            {
                self.dns_look_up(NameLookup { kind: TYPE::AAAA, ..lookup }, now);
            }
            AddressAnswer::Found(mut addresses, fresh) => {
                addresses.truncate(MOST_ADDRESSES);
                let until = now + fresh.clamp(LEAST_FRESH, TIME_TO_LIVE);
                self.names.set_resolved(&lookup.name, addresses, until);
                self.lookup_ended(&lookup.name, OwnAnswer::Addresses(None, None), now);
            }
            AddressAnswer::Truncated if !exchange.is_over_tcp() => {
                let next = exchange.over_tcp(&self.dns.servers, now);
                self.dns_wait(DnsTask::Lookup(lookup), id, next, now);
            }
            AddressAnswer::NoSuchName => match lookup.others.pop() {
                Some(asked) => {
                    self.dns_look_up(NameLookup { asked, kind: TYPE::A, ..lookup }, now);
                }
                None => self.lookup_ended(&lookup.name, OwnAnswer::NoSuchName, now),
            },
            AddressAnswer::Truncated | AddressAnswer::Failed => {
                let next = exchange.again(&self.dns.servers, now);
                self.dns_wait(DnsTask::Lookup(lookup), id, next, now);
            }
        }
    }

    fn lookup_ended(&mut self, name: &DnsName, otherwise: OwnAnswer, now: Instant) {
        for waiter in self.dns.waiting.remove(name).unwrap_or_default() {
            self.name_resolved(name, waiter, otherwise.clone(), now);
        }
    }

    /// Continues with a name's addresses, or with `otherwise` if they are not known.
    fn name_resolved(
        &mut self,
        name: &DnsName,
        waiter: NameWaiter,
        otherwise: OwnAnswer,
        now: Instant,
    ) {
        match waiter {
            NameWaiter::Nothing => {}
            NameWaiter::Packet(bytes) => {
                // Without an address, it would wait again.
                if self.names.resolved(name, now).is_some()
                    && let Some(packet) = IpPacket::parse(&bytes)
                {
                    self.udp_packet(&packet, now);
                }
            }
            NameWaiter::Tcp(id) => self.tcp_resolved(id, now),
            NameWaiter::Query(client, query) => {
                let has_some = self.names.resolved(name, now).map(|found| !found.is_empty());
                let answer = match has_some {
                    None => otherwise,
                    Some(has_some) => {
                        let own = self.names.address_of(name, now).filter(|_| has_some);
                        OwnAnswer::Addresses(own, None)
                    }
                };
                self.dns_answer(client, &query, answer);
            }
        }
    }
}

/// Whether a message is the answer that a task waits for.
fn is_answer(task: &DnsTask, id: u16, message: &[u8]) -> bool {
    match task {
        DnsTask::Relay { query, .. } => query.relayed(message, id).is_some(),
        DnsTask::Lookup(NameLookup { asked, kind, .. }) => {
            dns_message::addresses(message, asked, *kind, id).is_some()
        }
    }
}

fn random_id() -> u16 {
    random::bytes().map_or(0, u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_belongs_to_the_name_after_its_labels() {
        let name = |text: &str| text.parse::<DnsName>().unwrap();
        let found = without_service(&name("_https._tcp.example.org"));
        assert_eq!(found, Some(name("example.org")));
        assert_eq!(without_service(&name("example.org")), None);
        assert_eq!(without_service(&name("_tcp")), None);
    }
}
