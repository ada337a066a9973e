//! More output than anybody reads.

use std::io::Read;
use std::process::Stdio;

use crate::bench::Bench;
use crate::support::processes::{self, PATIENCE};

/// The most memory a mayfly may ever have resident, in kB, whatever flows through it.
const CEILING: u64 = 32 << 10;

pub fn a_reader_that_stops_costs_no_memory_and_holds_nobody_up(bench: &Bench) {
    let vm = bench.vm();
    let count = bench.flood.to_string();
    let mut command = vm.command(&["--", "head", "-c", &count, "/dev/zero"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pid = child.id() as i32;
    let peak = || {
        let peak = processes::status_field(pid, "VmHWM");
        peak.trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = vec![0; 1 << 20];
    stdout.read_exact(&mut buffer[..4096]).unwrap();
    // Nobody reads now. Everything on the way fills up; the other command does not notice.
    let asked = std::time::Instant::now();
    vm.exec(&["--", "echo", "unaffected"]).prints("unaffected\n");
    assert!(asked.elapsed() < PATIENCE / 4, "took {:?}", asked.elapsed());
    assert!(peak() < CEILING, "{} kB while nobody reads", peak());
    let mut received = 4096;
    let mut highest = 0;
    while received < bench.flood {
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            read => received += read as u64,
        }
        // Every so often a reader that is slow.
        if received / (16 << 20) > highest {
            highest = received / (16 << 20);
            std::thread::yield_now();
            if received < bench.flood {
                assert!(peak() < CEILING, "{} kB after {received} bytes", peak());
            }
        }
    }
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(received + rest.len() as u64, bench.flood);
    assert!(child.wait().unwrap().success());
    // The same into --json, which keeps its part of it.
    let count = bench.flood.min(100_000_000).to_string();
    let mut json = vm.command(&["--json", "--", "head", "-c", &count, "/dev/zero"]);
    json.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let output = json.spawn().unwrap().wait_with_output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["truncated"], true);
}
