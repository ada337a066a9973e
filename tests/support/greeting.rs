//! A server of the host that guests talk to.

use std::io::{Read, Write};
use std::net::TcpListener;

/// What a guest prints that has run [`ask`].
pub const HEARD: &str = "host heard hello\n";

/// A server on the host's loopback that repeats the first line of each connection, as long as the test runs. Returns its
/// port.
pub fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = [0; 6];
            if stream.read_exact(&mut line).is_ok() {
                let _ = stream.write_all(&[b"host heard ", &line[..]].concat());
            }
        }
    });
    port
}

/// A line of bash that prints what the server answers.
pub fn ask(port: u16) -> String {
    format!("exec 3<>/dev/tcp/host/{port} && echo hello >&3 && cat <&3")
}
