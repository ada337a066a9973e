//! One thread for each connection or port.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::listener::AgentListener;
use super::session::{self, SessionEnd};
use super::transport::HostStream;
use crate::agent::vm::AgentContext;
use crate::protocol::{FrameInbox, FrameOutbox};
use crate::sys::nonblocking::would_block;

/// Connections served at once; each costs a thread and half a MiB of buffers. More wait.
const MAX_CONNECTIONS: usize = 64;

/// Gives each connection a thread.
pub fn accept_forever(listener: &AgentListener, world: &Arc<AgentContext>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        match accepted.map(HostStream::connection) {
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
pub fn serve_in_thread(line: HostStream, world: &Arc<AgentContext>) {
    let world = Arc::clone(world);
    std::thread::spawn(move || serve(&line, &world));
}

/// Serves a line's clients one after the other: for ever on a port, until its end on a connection.
fn serve(line: &HostStream, world: &AgentContext) {
    // For all sessions: large, so that making them anew would cost each some milliseconds.
    let (mut inbox, mut outbox) = (FrameInbox::new(), FrameOutbox::new());
    loop {
        if let Some(hello) = inbox.find_hello() {
            let over = session::serve(hello, line, &mut inbox, &mut outbox, world);
            if over == SessionEnd::Lost {
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
            Err(error) if would_block(&error) => line.wait(),
            // The port itself is gone, as when a device is unplugged.
            Err(_) => return,
        }
    }
}
