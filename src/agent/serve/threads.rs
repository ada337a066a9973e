//! One thread for each connection or port.

use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use anyhow::{Context, Result};

use super::host_stream::HostStream;
use super::listener::AgentListener;
use super::session::{self, SessionEnd};
use crate::agent::vm::AgentContext;
use crate::protocol::{FrameInbox, FrameOutbox};
use crate::sys::nonblocking::would_block;

/// Connections served at once; others wait. Each needs a thread and at most 700 KiB of buffers.
const MAX_CONNECTIONS: usize = 64;

/// Starts a thread that accepts connections, and starts a thread for each of them.
///
/// # Errors
/// The kernel allows no more threads.
pub fn accept_in_thread(listener: AgentListener, context: &Arc<AgentContext>) -> Result<()> {
    let context = Arc::clone(context);
    let started = Builder::new().spawn(move || accept_forever(&listener, &context));
    started.map(drop).context("start a thread for connections")
}

fn accept_forever(listener: &AgentListener, context: &Arc<AgentContext>) {
    // Each connection's thread has a clone, so the count of clones is that of connections.
    let connections = Arc::new(());
    loop {
        match listener.accept().and_then(HostStream::connection) {
            Ok(stream) => {
                let (context, connection) = (Arc::clone(context), Arc::clone(&connections));
                // Without a thread the connection is closed, which the client sees.
                let _ = Builder::new().spawn(move || {
                    serve(&stream, &context);
                    drop((stream, connection));
                });
            }
            // Out of descriptors, or the client has left. A pause lets other threads close descriptors.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
        while Arc::strong_count(&connections) > MAX_CONNECTIONS {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Starts a thread that serves a stream's clients one after the other.
///
/// # Errors
/// The kernel allows no more threads.
pub fn serve_in_thread(stream: HostStream, context: &Arc<AgentContext>) -> Result<()> {
    let context = Arc::clone(context);
    let started = Builder::new().spawn(move || serve(&stream, &context));
    started.map(drop).context("start a thread for a port")
}

/// Serves a stream's clients one after the other: for ever on a port, until the end of a connection.
fn serve(stream: &HostStream, context: &AgentContext) {
    // Reused by all sessions: they are large, and creating them takes some milliseconds.
    let (mut inbox, mut outbox) = (FrameInbox::default(), FrameOutbox::default());
    loop {
        if let Some(hello) = inbox.find_hello() {
            let end = session::serve(hello, stream, &mut inbox, &mut outbox, context);
            if end == SessionEnd::ClientGone {
                if stream.is_connection() {
                    return;
                }
                inbox.clear();
            }
            continue;
        }
        // Everything must be read before waiting, because a port reports only changes.
        match stream.read(inbox.space()) {
            Ok(0) if stream.is_connection() => return,
            Ok(0) => stream.wait(),
            Ok(count) => inbox.filled(count),
            Err(error) if would_block(&error) => stream.wait(),
            // The device was unplugged.
            Err(_) => return,
        }
    }
}
