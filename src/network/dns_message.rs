//! Queries of the guest and answers of resolvers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use simple_dns::rdata::{A, AAAA, PTR, RData};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
};

use crate::model::DnsName;

const HEADER: usize = 12;

/// The most records of one message. The crate makes room for as many as a message claims to have.
const MOST_RECORDS: usize = 256;

/// What a guest asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsQuery {
    id: u16,
    /// The name in the spelling of hosts; `None` is one that no host has.
    pub name: Option<DnsName>,
    /// The name as the guest spelled it, for logs. Bytes that are no text are lost.
    pub spelled: String,
    /// The name as the guest spelled it, for answers.
    asked: Name<'static>,
    pub kind: QTYPE,
}

/// What a resolver says about the addresses of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum AddressAnswer {
    /// With the time that they may be used. None means that the name has no addresses of this family.
    Found(Vec<IpAddr>, Duration),
    /// Some may be missing, so ask again over TCP.
    Truncated,
    NoSuchName,
    /// The resolver could not find out.
    Failed,
}

/// What is answered to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnAnswer {
    Addresses(Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// The name of an address.
    Pointer(DnsName),
    NoSuchName,
    /// Such questions are not answered.
    Refused,
    /// Nothing was found out; the guest may try again.
    Failure,
}

fn parse(message: &[u8]) -> Option<Packet<'_>> {
    let count = |at: usize| {
        Some(usize::from(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?])))
    };
    let records = count(6)? + count(8)? + count(10)?;
    let is_usual = count(4)? == 1 && records <= MOST_RECORDS && message.len() > HEADER;
    is_usual.then(|| Packet::parse(message).ok()).flatten()
}

impl DnsQuery {
    /// Reads a query; `None` if it is not one with a single question about the internet.
    pub fn parse(message: &[u8]) -> Option<DnsQuery> {
        let packet = parse(message)?;
        let [question] = &packet.questions[..] else { return None };
        let is_query = !packet.has_flags(PacketFlag::RESPONSE)
            && packet.opcode() == simple_dns::OPCODE::StandardQuery
            && matches!(question.qclass, QCLASS::CLASS(CLASS::IN));
        let asked = question.qname.clone().into_owned();
        let spelled = asked.to_string();
        let name = spelled.parse().ok();
        is_query.then_some(DnsQuery { id: packet.id(), name, spelled, asked, kind: question.qtype })
    }

    /// The address whose name is asked for.
    pub fn pointer_address(&self) -> Option<IpAddr> {
        if self.kind != QTYPE::TYPE(TYPE::PTR) {
            return None;
        }
        let name = self.spelled.to_ascii_lowercase();
        if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
            let octets: Vec<&str> = reversed.rsplit('.').collect();
            return octets.join(".").parse().ok().map(IpAddr::V4);
        }
        let digits: String = name.strip_suffix(".ip6.arpa")?.rsplit('.').collect();
        let bits = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
        Some(Ipv6Addr::from(bits).into())
    }

    /// An answer that no resolver is asked for.
    pub fn answer(&self, answer: OwnAnswer, time_to_live: Duration) -> Vec<u8> {
        let mut packet = Packet::new_reply(self.id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
        let name = self.asked.clone();
        let question = Question::new(name.clone(), self.kind, QCLASS::CLASS(CLASS::IN), false);
        packet.questions.push(question);
        let seconds = time_to_live.as_secs() as u32;
        match answer {
            OwnAnswer::NoSuchName => *packet.rcode_mut() = RCODE::NameError,
            OwnAnswer::Failure => *packet.rcode_mut() = RCODE::ServerFailure,
            OwnAnswer::Refused => *packet.rcode_mut() = RCODE::Refused,
            OwnAnswer::Pointer(ref target) => {
                let data = RData::PTR(PTR(Name::new_unchecked(target.as_str())));
                packet.answers.push(ResourceRecord::new(name, CLASS::IN, seconds, data));
            }
            OwnAnswer::Addresses(v4, v6) => {
                let v4 = v4.map(|address| RData::A(A::from(address)));
                let v6 = v6.map(|address| RData::AAAA(AAAA::from(address)));
                let data = [(TYPE::A, v4), (TYPE::AAAA, v6)]
                    .into_iter()
                    .filter_map(|(kind, data)| data.filter(|_| self.kind == QTYPE::TYPE(kind)));
                packet.answers.extend(
                    data.map(|data| ResourceRecord::new(name.clone(), CLASS::IN, seconds, data)),
                );
            }
        }
        packet.build_bytes_vec().unwrap_or_default()
    }

    /// The query for a resolver: only what was understood of it, so that a guest cannot hide anything in it.
    pub fn forwarded(&self, id: u16) -> Vec<u8> {
        match &self.name {
            Some(name) => query(name.as_str(), self.kind, id),
            None => query_for(self.asked.clone(), self.kind, id),
        }
    }

    /// A resolver's answer to [`DnsQuery::forwarded`], as an answer to this query. `None` if it is another one.
    pub fn relayed(&self, message: &[u8], id: u16) -> Option<Vec<u8>> {
        let packet = parse(message)?;
        let answers = &packet.questions[..];
        let [Question { qname, qtype, .. }] = answers else { return None };
        let is_ours = packet.id() == id
            && packet.has_flags(PacketFlag::RESPONSE)
            && *qtype == self.kind
            && is_same(qname, &self.asked);
        let mut wire = Vec::new();
        for label in self.asked.as_bytes() {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
        }
        let mut bytes = message.to_vec();
        bytes[..2].copy_from_slice(&self.id.to_be_bytes());
        // The same name in the guest's own spelling, some clients compare them.
        bytes.get_mut(HEADER..HEADER + wire.len())?.copy_from_slice(&wire);
        is_ours.then_some(bytes)
    }
}

/// The answer to a query that is not understood; `None` if the message is no query. It repeats no question.
pub fn refusal(message: &[u8]) -> Option<Vec<u8>> {
    const RESPONSE: u8 = 0x80;
    /// The kind of query, and the wish for recursion.
    const REPEATED: u8 = 0x79;
    const REFUSED: u8 = 5;
    let &[high, low, flags, ..] = message.get(..HEADER)? else { return None };
    let is_query = flags & RESPONSE == 0;
    is_query.then(|| vec![high, low, RESPONSE | flags & REPEATED, REFUSED, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// A query for a resolver.
pub fn query(name: &str, kind: QTYPE, id: u16) -> Vec<u8> {
    query_for(Name::new(name).unwrap_or_else(|_| Name::new_unchecked("")), kind, id)
}

fn query_for(name: Name<'_>, kind: QTYPE, id: u16) -> Vec<u8> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, kind, QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().unwrap_or_default()
}

fn is_same(one: &Name<'_>, other: &Name<'_>) -> bool {
    let labels =
        |name: &Name<'_>| name.as_bytes().map(<[u8]>::to_ascii_lowercase).collect::<Vec<_>>();
    labels(one) == labels(other)
}

/// Reads a resolver's answer about addresses; `None` if it is to another question.
pub fn addresses(message: &[u8], name: &DnsName, kind: TYPE, id: u16) -> Option<AddressAnswer> {
    let packet = parse(message)?;
    let [question] = &packet.questions[..] else { return None };
    let is_ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && question.qtype == QTYPE::TYPE(kind)
        && question.qname.to_string().eq_ignore_ascii_case(name.as_str());
    if !is_ours {
        return None;
    }
    let mut found = Vec::new();
    let mut seconds = u32::MAX;
    for record in &packet.answers {
        let address = match &record.rdata {
            RData::A(A { address }) => Ipv4Addr::from(*address).into(),
            RData::AAAA(AAAA { address }) => Ipv6Addr::from(*address).into(),
            _ => continue,
        };
        seconds = seconds.min(record.ttl);
        found.push(address);
    }
    Some(match packet.rcode() {
        RCODE::NameError => AddressAnswer::NoSuchName,
        RCODE::NoError if found.is_empty() && packet.has_flags(PacketFlag::TRUNCATION) => {
            AddressAnswer::Truncated
        }
        RCODE::NoError => AddressAnswer::Found(found, Duration::from_secs(seconds.into())),
        _ => AddressAnswer::Failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, kind: TYPE) -> DnsQuery {
        DnsQuery::parse(&query(name, QTYPE::TYPE(kind), 7)).unwrap()
    }

    fn answer_of(bytes: &[u8], kind: TYPE) -> AddressAnswer {
        addresses(bytes, &"example.org".parse().unwrap(), kind, 7).unwrap()
    }

    #[test]
    fn an_answer_has_what_was_asked_for() {
        let four = Ipv4Addr::new(198, 18, 0, 1);
        let asked = ask("Example.org", TYPE::A);
        assert_eq!(asked.name, Some("example.org".parse().unwrap()));
        assert_eq!(asked.spelled, "Example.org");
        let minute = Duration::from_secs(60);
        let own = OwnAnswer::Addresses(Some(four), None);
        let found = AddressAnswer::Found(vec![four.into()], minute);
        assert_eq!(answer_of(&asked.answer(own.clone(), minute), TYPE::A), found);
        let six = ask("example.org", TYPE::AAAA);
        let AddressAnswer::Found(none, _) = answer_of(&six.answer(own, minute), TYPE::AAAA) else {
            panic!("no answer without data");
        };
        assert!(none.is_empty());
        let no_name = asked.answer(OwnAnswer::NoSuchName, minute);
        assert_eq!(answer_of(&no_name, TYPE::A), AddressAnswer::NoSuchName);
        assert_eq!(
            answer_of(&asked.answer(OwnAnswer::Failure, minute), TYPE::A),
            AddressAnswer::Failed
        );
    }

    #[test]
    fn answers_to_other_questions_are_ignored() {
        let name = "example.org".parse().unwrap();
        let good = ask("example.org", TYPE::A).answer(OwnAnswer::NoSuchName, Duration::ZERO);
        assert!(addresses(&good, &name, TYPE::A, 7).is_some());
        assert!(addresses(&good, &name, TYPE::A, 8).is_none());
        assert!(addresses(&good, &name, TYPE::AAAA, 7).is_none());
        assert!(addresses(&good, &"example.net".parse().unwrap(), TYPE::A, 7).is_none());
    }

    #[test]
    fn only_what_was_understood_is_sent_on_and_the_answer_is_in_the_guests_spelling() {
        let mut message = query("eXaMpLe.org", QTYPE::TYPE(TYPE::TXT), 7);
        message.extend_from_slice(b"a secret");
        let asked = DnsQuery::parse(&message).unwrap();
        let sent = asked.forwarded(9);
        assert_eq!(sent, query("example.org", QTYPE::TYPE(TYPE::TXT), 9));
        let mut reply = sent.clone();
        reply[2] |= 0x80;
        let relayed = asked.relayed(&reply, 9).unwrap();
        assert_eq!(relayed[..2], [0, 7]);
        assert_eq!(relayed[12..], query("eXaMpLe.org", QTYPE::TYPE(TYPE::TXT), 7)[12..]);
        assert_eq!(asked.relayed(&reply, 10), None);
    }

    #[test]
    fn a_name_that_is_no_text_is_repeated_byte_for_byte() {
        let mut message = query(&["a"; 63].concat(), QTYPE::TYPE(TYPE::TXT), 7);
        message[20..22].copy_from_slice(&[0x9f, 0xa4]);
        let asked = DnsQuery::parse(&message).unwrap();
        assert_eq!(asked.name, None);
        let question = &message[12..];
        let answer = asked.answer(OwnAnswer::NoSuchName, Duration::ZERO);
        assert_eq!(answer[12..], *question);
        let mut reply = asked.forwarded(9);
        assert_eq!(reply[12..], *question);
        reply[2] |= 0x80;
        assert_eq!(asked.relayed(&reply, 9).unwrap()[12..], *question);
    }

    #[test]
    fn a_message_that_claims_many_records_is_not_read() {
        let mut message = query("example.org", QTYPE::TYPE(TYPE::A), 7);
        message[6..8].fill(0xff);
        assert_eq!(DnsQuery::parse(&message), None);
        assert_eq!(DnsQuery::parse(&[]), None);
    }
}
