//! More output than is read.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mayfly::host::log;

use crate::bench::Bench;
use crate::support::processes::{self, PATIENCE, eventually};

/// The limit of mayfly's resident memory in kB, for any amount of data.
const CEILING: u64 = 32 << 10;

pub fn a_stopped_reader_costs_no_memory_and_delays_no_other_command(bench: &Bench) {
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
    // The reader stops. All buffers fill up; another command is not affected.
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
        // A slow reader at times.
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
    // --json captures a part of the output.
    let count = bench.flood.min(100_000_000).to_string();
    let mut json = vm.command(&["--json", "--", "head", "-c", &count, "/dev/zero"]);
    json.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let output = json.spawn().unwrap().wait_with_output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["truncated"], true);
}

pub fn a_console_that_is_flooded_stays_bounded(bench: &Bench) {
    if bench.skips("there is no console") {
        return;
    }
    let (vm, neighbour) = (bench.vm(), bench.vm());
    let files = vm.env.state().join("vms").join(&vm.id);
    // A console log starts after a hole as long as the largest file that the VMM must be able to write.
    let hole = fs::metadata(files.join("disk.img")).unwrap().len();
    let console = files.join("console.log");
    let written = || fs::metadata(&console).unwrap().len() - hole;
    // An emulated serial port transfers some kilobytes per second, so the test fills all but the end of the log itself.
    let filler = vec![b'.'; (log::MAX_BYTES - written()) as usize - 3000];
    OpenOptions::new().append(true).open(&console).unwrap().write_all(&filler).unwrap();

    let mut live = vm.live(&["-c", "echo ready; while :; do echo $RANDOM > /dev/ttyS0; done"]);
    live.says("ready");
    eventually("a full console", || written() == log::MAX_BYTES);
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert_eq!(written(), log::MAX_BYTES);
        assert!(fs::metadata(&console).unwrap().blocks() * 512 <= log::MAX_BYTES + (64 << 10));
        let asked = Instant::now();
        neighbour.exec(&["--", "echo", "unaffected"]).prints("unaffected\n");
        assert!(asked.elapsed() < PATIENCE / 4, "took {:?}", asked.elapsed());
    }
    vm.exec(&["--", "echo", "alive"]).prints("alive\n");
    vm.env.run(&["stop", "--grace", "5s", &vm.id]).prints(&format!("{}\n", vm.id));
    assert_ne!(live.end().code(), 0);
    // The VMM's log is bounded in the same way, and each start begins a new log.
    assert!(fs::metadata(files.join("vmm.log")).unwrap().blocks() * 512 <= log::MAX_BYTES);
    vm.env.run(&["start", &vm.id]).prints(&format!("{}\n", vm.id));
    assert!(written() < log::MAX_BYTES / 2, "{} bytes", written());
}

pub fn a_guest_waits_while_the_disk_of_the_host_is_full(bench: &Bench) {
    if bench.backend != "qemu" || !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: it mounts a small file system for one VM");
        return;
    }
    // The mount ends with the shell and the VM.
    let script = r#"set -e; mkdir small; mount -t tmpfs -o size=16m,mode=700 none small
        export MAYFLY_STATE_DIR=$PWD/small/state; vm=$(mayfly create --keep); mayfly start -q $vm > /dev/null
        sh() { mayfly exec --keep --timeout $1 $vm -- sh -c "$2"; }; said() { grep -c ' waits: the host.s disk is full' $1; }
        write='yes mayfly | head -c 40M > /big; sync; echo 3 > /proc/sys/vm/drop_caches; md5sum < /big'
        sh 5m "$write" > sum 2> waits & writer=$!
        sh 30s 'sleep 100' 2> slept || echo sleep $? > sleeps & sleeper=$!
        until [ -s waits ]; do kill -0 $writer; sleep 0.1; done
        said waits; mayfly status --json $vm | grep -o started; mayfly status | grep -o 'disk is full'
        sh 5m true 2> refused || echo exec $?; said refused
        wait $sleeper; cat sleeps; said waits
        mount -o remount,size=100m small; wait $writer; yes mayfly | head -c 40M | md5sum | cmp - sum && echo whole
        mayfly status --json $vm | grep -o '"last_error":null'
        head -c 100M /dev/zero > small/fill 2> /dev/null || sh 15s 'yes | head -c 20M > /more; sync' 2> full || echo full $?; said full
        mayfly stop --grace 5m $vm 2>&1 > /dev/null | grep -o 'without its last writes'
        rm small/fill; mayfly start $vm > /dev/null; sh 5m 'md5sum < /big' | cmp - sum && echo still whole
        mayfly rm $vm > /dev/null; umount small"#;
    let answer = bench.env.run_client("unshare", &["-m", "sh", "-c", script]);
    let expected = "1\nstarted\ndisk is full\nexec 125\n1\nsleep 124\n1\nwhole\n\"last_error\":null\nfull 124\n1\nwithout its last writes\nstill whole\n";
    assert_eq!(answer.stdout(), expected, "{answer}");
    assert_eq!(answer.code(), 0, "{answer}");
}
