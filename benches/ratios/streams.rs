//! Throughput of a command's output and input.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mayfly::host::signals::PendingSignals;

use crate::bare::{BareLauncher, BareVm};
use crate::options::Options;
use crate::report::{Goal, Report, Row, Unit};
use crate::samples::in_turns;
use crate::workspace::{QEMU, Workspace, timed};

/// A file in the guest's memory, so that no disk is measured.
const BIG_FILE: &str = "/dev/shm/big";

/// Bytes to read or write at a time on the host.
const CHUNK: usize = 1 << 17;

/// Compares a command's output and input through mayfly with `cat` from and to an otherwise unused port of
/// the same kind, in a VM of the same shape.
pub fn measure(
    workspace: &Workspace,
    launcher: &BareLauncher,
    options: &Options,
    signals: &mut PendingSignals,
    report: &mut Report,
) -> Result<()> {
    let bytes = options.mib << 20;
    let fill = format!("head -c {bytes} /dev/zero > {BIG_FILE}");

    let vm = workspace.start_vm(QEMU, &[])?;
    timed(&mut vm.exec(&[], &["sh", "-c", &fill]))?;
    let mut bare = launcher.boot(workspace, true)?;
    bare.exec(&["sh", "-c", &fill], signals)?;
    let device = bare.raw_device(signals)?;
    let raw = bare.raw_stream()?;

    let out = format!("cat {BIG_FILE} > {device}");
    let [ours, floor] = in_turns(
        options.pairs,
        [
            &mut || rate(bytes, || read_output(&mut vm.exec(&[], &["cat", BIG_FILE]), bytes)),
            &mut || rate(bytes, || with_transfer(&mut bare, &out, signals, || read(&raw, bytes))),
        ],
    )?;
    let floor_name = || "bare cat, same channel".to_owned();
    let (unit, goal) = (Unit::MegabytesPerSecond, Goal::Rate(0.8));
    report.add(Row { name: "output".into(), unit, ours, floor_name: floor_name(), floor, goal });

    let into = format!("head -c {bytes} {device} > /dev/null");
    // What it reads must not come back as output.
    let theirs = format!("head -c {bytes} > /dev/null");
    let [ours, floor] = in_turns(
        options.pairs,
        [
            &mut || {
                rate(bytes, || write_input(&mut vm.exec(&["-i"], &["sh", "-c", &theirs]), bytes))
            },
            &mut || {
                // After the guest has closed the port, QEMU may lose the first bytes that are sent to it, until
                // data for another port makes QEMU check all ports.
                bare.exec(&["true"], signals)?;
                rate(bytes, || with_transfer(&mut bare, &into, signals, || write(&raw, bytes)))
            },
        ],
    )?;
    report.add(Row { name: "input".into(), unit, ours, floor_name: floor_name(), floor, goal });
    Ok(())
}

/// MB/s of moving `bytes`.
fn rate(bytes: usize, transfer: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    transfer()?;
    Ok(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64())
}

/// Runs a command that prints `bytes`, and reads them.
fn read_output(command: &mut Command, bytes: usize) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let read = read(child.stdout.take().context("no pipe")?, bytes);
    let status = child.wait()?;
    read?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Runs a command that reads `bytes`, and writes them.
fn write_input(command: &mut Command, bytes: usize) -> Result<()> {
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let wrote = write(child.stdin.take().context("no pipe")?, bytes);
    let status = child.wait()?;
    wrote?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Runs a script in the bare VM while `transfer` serves the other end of its raw port.
fn with_transfer(
    bare: &mut BareVm,
    script: &str,
    signals: &mut PendingSignals,
    transfer: impl FnOnce() -> Result<()> + Send,
) -> Result<()> {
    std::thread::scope(|scope| {
        let other_end = scope.spawn(transfer);
        bare.exec(&["sh", "-c", script], signals)?;
        other_end.join().expect("the transfer panicked")
    })
}

fn read(mut from: impl Read, bytes: usize) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        match from.read(&mut buffer)? {
            0 => bail!("the stream ended {left} bytes early"),
            count => left = left.checked_sub(count).context("the stream is too long")?,
        }
    }
    Ok(())
}

fn write(mut to: impl Write, bytes: usize) -> Result<()> {
    let buffer = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        left -= to.write(&buffer[..left.min(CHUNK)])?;
    }
    Ok(())
}
