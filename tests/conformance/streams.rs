//! Standard streams.

use std::process::Stdio;
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::bench::Bench;
use crate::support::live::Live;

/// Pseudorandom bytes, the same in every run.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        // xorshift64, because it is fast.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

pub fn streams_are_byte_exact(bench: &Bench) {
    let vm = bench.vm();
    let sent = noise(bench.payload);
    let received = vm.env.feed(&["exec", "-i", "--keep", &vm.id, "--", "cat"], &sent);
    assert_eq!((received.code(), received.stderr()), (0, ""));
    assert_eq!(received.stdout.len(), sent.len());
    assert!(
        Sha256::digest(&received.stdout) == Sha256::digest(&sent),
        "what came back was changed"
    );
    // Both output streams at the same time.
    let both = vm.sh(
        "head -c 3000000 /dev/zero | tr '\\0' o & head -c 3000000 /dev/zero | tr '\\0' e >&2; wait",
    );
    assert_eq!(both.code(), 0);
    assert!(both.stdout.len() == 3_000_000 && both.stdout.iter().all(|&b| b == b'o'));
    assert!(both.stderr.len() == 3_000_000 && both.stderr.iter().all(|&b| b == b'e'));
    // Pages that are partly full, in a pipe of the default size and in the largest that the command may make.
    let uneven = r#"$| = 1; fcntl STDOUT, 1031, 1 << 20 if $ARGV[0];
        for (1..9000) { syswrite STDOUT, "u" x ($_ % 900) . "\n" }"#;
    let expected: String = (1..=9000).map(|n| "u".repeat(n % 900) + "\n").collect();
    for grown in ["", "1"] {
        let received = vm.exec(&["perl", "-e", uneven, grown]);
        assert!(received.stdout == expected.as_bytes(), "{}", received.stdout.len());
    }
    // A command that reads late, and little at a time.
    let slow = "(sleep 0.2; dd bs=1001 count=999 status=none; cat) | sha256sum";
    let sum = Sha256::digest(&sent[..3 << 20]);
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    vm.feed(slow, &sent[..3 << 20]).prints(&format!("{sum}  -\n"));
    // A command that does not read all its input does not block.
    vm.feed("head -c 3; exit 5", &sent[..1 << 20]).is(5, "[..]", "");
}

pub fn input_ends_when_it_ends(bench: &Bench) {
    let vm = bench.vm();
    // The command continues after the end of its input, and its output arrives.
    vm.feed("cat; sleep 3; echo done", b"x").prints("xdone\n");
    vm.feed("cat | wc -c", b"").prints("0\n");
    let mut live = vm.live(&[
        "-i",
        "--",
        "sh",
        "-c",
        "read a; echo got $a; read b || echo end; sleep 0.1; echo last",
    ]);
    live.write(b"one\n");
    live.says("got one\n");
    live.close_stdin();
    live.end().is(0, "got one\nend\nlast\n", "");
    // Without -i the command's input is empty, and mayfly does not read its own.
    let asked = Instant::now();
    let mut command = vm.command(&["--", "cat"]);
    let (_held_open, reader) = {
        let (read, write) = std::io::pipe().unwrap();
        (write, read)
    };
    command.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
    Live::start_as_set_up(command).end().is(0, "", "");
    assert!(asked.elapsed().as_secs() < 30);
}
