//! A resolver that tests start, so that no question leaves this host.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use simple_dns::rdata::{A, AAAA, RData, TXT};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// A resolver over UDP and TCP, and the questions that it was asked.
pub struct FakeResolver {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeResolver {
    /// One that knows the addresses of some names, and a text of all of these.
    pub fn start(known: &[(&str, &[&str])]) -> FakeResolver {
        let known: HashMap<String, Vec<IpAddr>> = known
            .iter()
            .map(|(name, all)| {
                (name.to_string(), all.iter().map(|one| one.parse().unwrap()).collect())
            })
            .collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listener = TcpListener::bind(address).unwrap();
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
        FakeResolver { address, asked }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn reply(
    known: &HashMap<String, Vec<IpAddr>>,
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
            let add = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, 300, data);
            for address in all {
                match (question.qtype, address) {
                    (QTYPE::TYPE(TYPE::A), IpAddr::V4(address)) => {
                        answer.answers.push(add(RData::A(A::from(*address))));
                    }
                    (QTYPE::TYPE(TYPE::AAAA), IpAddr::V6(address)) => {
                        answer.answers.push(add(RData::AAAA(AAAA::from(*address))));
                    }
                    _ => {}
                }
            }
            if question.qtype == QTYPE::TYPE(TYPE::TXT) {
                answer.answers.push(add(RData::TXT(TXT::new().with_string("a text").unwrap())));
            }
        }
    }
    answer.build_bytes_vec().unwrap()
}
