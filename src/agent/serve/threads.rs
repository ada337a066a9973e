//! Lines and the threads that serve them.

use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::listener::Listener;
use super::session::{self, Over};
use super::transport::{Line, not_now};
use crate::agent::args::Options;
use crate::agent::console;
use crate::agent::job::spawn::{inherited, keep_descriptors_private};
use crate::agent::processes::Reaper;
use crate::agent::vm::{World, WorldKind};
use crate::protocol::{Inbox, Outbox};

/// Connections served at once; each costs a thread and half a MiB of buffers. More wait.
const MAX_CONNECTIONS: usize = 64;

/// How long a plain process's commands have to end when the agent is asked to.
const GRACE: Duration = Duration::from_millis(500);

/// Serves as a plain process of the host, until SIGTERM, the TTL or a `Shutdown`.
pub fn as_process(options: Options) -> ExitCode {
    match start_process(options) {
        Ok(world) => wait_for_term(&world),
        Err(message) => {
            console::say(&message);
            ExitCode::FAILURE
        }
    }
}

fn start_process(options: Options) -> Result<Arc<World>, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    keep_descriptors_private().map_err(|error| failed("close_range", &error))?;
    let mut lines = Vec::new();
    let mut listeners = Vec::new();
    for number in options.ports {
        let fd = inherited(number).map_err(|error| failed("--port-fd", &error))?;
        lines.push(Line::port(fd).map_err(|error| failed("--port-fd", &error))?);
    }
    for number in options.listeners {
        let fd = inherited(number).map_err(|error| failed("--listen-fd", &error))?;
        listeners.push(Listener::Unix(UnixListener::from(fd)));
    }
    let root = match options.root {
        Some(root) => std::path::absolute(root),
        None => std::env::current_dir(),
    };
    let root = root.map_err(|error| failed("the root directory", &error))?;
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|error| failed("become a subreaper", &error))?;
    // Before any thread starts: all of them must leave SIGTERM to the one that waits for it.
    block_signals().map_err(|error| failed("set up signals", &error))?;
    let kind = WorldKind::Process { root, secrets: options.secrets };
    let world =
        World::new(kind, Reaper::start()).map_err(|error| failed("set up the TTL", &error))?;
    for line in lines {
        serve_in_thread(line, &world);
    }
    for listener in listeners {
        let world = Arc::clone(&world);
        std::thread::spawn(move || accept_forever(&listener, &world));
    }
    Ok(world)
}

/// Gives each connection a thread.
pub fn accept_forever(listener: &Listener, world: &Arc<World>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        match accepted.map(Line::connection) {
            Ok(Ok(line)) => {
                open.fetch_add(1, Ordering::SeqCst);
                let (world, open) = (Arc::clone(world), Arc::clone(&open));
                let served = Arc::clone(&open);
                let thread = std::thread::Builder::new().spawn(move || {
                    serve(&line, &world);
                    drop(line);
                    served.fetch_sub(1, Ordering::SeqCst);
                });
                // No more threads: the client sees its connection closed, and the agent lives.
                if thread.is_err() {
                    open.fetch_sub(1, Ordering::SeqCst);
                }
            }
            // Out of descriptors, or a client that left at once: the next attempt may work, and
            // trying without a pause would only burn the CPU that frees some.
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
        while open.load(Ordering::SeqCst) >= MAX_CONNECTIONS {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Serves a line's clients, one after the other, in a thread of its own.
pub fn serve_in_thread(line: Line, world: &Arc<World>) {
    let world = Arc::clone(world);
    std::thread::spawn(move || serve(&line, &world));
}

/// Serves a line's clients one after the other: for ever on a port, until its end on a connection.
fn serve(line: &Line, world: &World) {
    // For all sessions: large, so that making them anew would cost each some milliseconds.
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
    loop {
        if let Some(hello) = inbox.find_hello() {
            let over = session::serve(hello, line, &mut inbox, &mut outbox, world);
            if over == Over::Lost {
                if line.is_connection() {
                    return;
                }
                inbox.clear();
            }
            continue;
        }
        // Everything must be read before waiting: a port reports changes only.
        match line.read(inbox.space()) {
            Ok(0) if line.is_connection() => return,
            Ok(0) => line.wait(),
            Ok(count) => inbox.filled(count),
            Err(error) if not_now(&error) => line.wait(),
            // The port itself is gone, as when a device is unplugged.
            Err(_) => return,
        }
    }
}

/// Leaves SIGTERM to [`wait_for_term`] and ignores what a terminal sends. Before any thread starts.
///
/// # Errors
/// The kernel's.
pub fn block_signals() -> nix::Result<()> {
    SigSet::from(Signal::SIGTERM).thread_block()?;
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: ignoring a signal runs no handler.
        unsafe { sigaction(signal, &ignore) }?;
    }
    Ok(())
}

/// Ends the world when SIGTERM arrives.
pub fn wait_for_term(world: &World) -> ! {
    let term = SigSet::from(Signal::SIGTERM);
    loop {
        if term.wait().is_ok() {
            world.end(GRACE);
        }
    }
}
