//! A resolver that tests start, so that no question leaves this host.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use simple_dns::rdata::{A, AAAA, CNAME, RData, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// Names, each with what it has.
pub type Known<'a> = &'a [(&'a str, &'a [&'a str])];

/// A resolver over UDP and TCP, and the questions that it was asked.
pub struct FakeResolver {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeResolver {
    /// One that knows some names, at a free port.
    pub fn start(known: Known<'_>) -> FakeResolver {
        FakeResolver::start_at("127.0.0.1:0".parse().unwrap(), known).unwrap()
    }

    /// One that knows some names: their addresses, or the names that they are other names of; and a text and a service of
    /// all of these.
    ///
    /// # Errors
    /// It cannot listen at this address.
    pub fn start_at(address: SocketAddr, known: Known<'_>) -> io::Result<FakeResolver> {
        let known: HashMap<String, Vec<String>> = known
            .iter()
            .map(|(name, all)| (name.to_string(), all.iter().map(|it| it.to_string()).collect()))
            .collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let socket = UdpSocket::bind(address)?;
        let address = socket.local_addr()?;
        let listener = TcpListener::bind(address)?;
        let (names, log) = (known.clone(), asked.clone());
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&reply(&names, &log, "udp", &buffer[..count]), from).unwrap();
            }
        });
        let log = asked.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut message).unwrap();
                let answer = reply(&known, &log, "tcp", &message);
                stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        Ok(FakeResolver { address, asked })
    }

    /// The questions since the last call.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn reply(
    known: &HashMap<String, Vec<String>>,
    asked: &Mutex<Vec<String>>,
    over: &str,
    message: &[u8],
) -> Vec<u8> {
    let packet = Packet::parse(message).unwrap();
    let question = packet.questions[0].clone();
    let name = question.qname.to_string();
    asked.lock().unwrap().push(format!("{over} {:?} {name}", question.qtype));
    let mut answer = Packet::new_reply(packet.id());
    answer.questions.push(question.clone());
    match known.get(&name) {
        None => *answer.rcode_mut() = RCODE::NameError,
        // An answer of many addresses fits only into TCP.
        Some(all) if all.len() > 4 && over == "udp" => answer.set_flags(PacketFlag::TRUNCATION),
        Some(all) => {
            let (mut owner, mut all) = (name.as_str(), all);
            let mut add = |owner: &str, data| {
                let owner = Name::new(owner).unwrap().into_owned();
                answer.answers.push(ResourceRecord::new(owner, CLASS::IN, 300, data));
            };
            while let Some((other, records)) = all.first().and_then(|it| known.get_key_value(it)) {
                add(owner, RData::CNAME(CNAME(Name::new(other).unwrap())));
                (owner, all) = (other, records);
            }
            for address in all {
                match (question.qtype, address.parse().unwrap()) {
                    (QTYPE::TYPE(TYPE::A), IpAddr::V4(address)) => {
                        add(owner, RData::A(A::from(address)));
                    }
                    (QTYPE::TYPE(TYPE::AAAA), IpAddr::V6(address)) => {
                        add(owner, RData::AAAA(AAAA::from(address)));
                    }
                    _ => {}
                }
            }
            match question.qtype {
                QTYPE::TYPE(TYPE::TXT) => {
                    add(owner, RData::TXT(TXT::new().with_string("a text").unwrap()));
                }
                QTYPE::TYPE(TYPE::SRV) => {
                    let target = Name::new("web.example").unwrap();
                    add(owner, RData::SRV(SRV { priority: 1, weight: 1, port: 443, target }));
                }
                _ => {}
            }
        }
    }
    answer.build_bytes_vec().unwrap()
}
