//! The agent as a plain process of the host, under the mock backend.

use std::io;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::args::AgentOptions;
use super::console;
use super::descriptors::{close_on_exec, inherited};
use super::serve::host_stream::HostStream;
use super::serve::listener::AgentListener;
use super::serve::threads::{accept_in_thread, serve_in_thread};
use super::vm::{AgentContext, AgentMode, shutdown};

/// Serves as a plain process of the host, until SIGTERM, the TTL or a `Shutdown`.
pub fn run(options: AgentOptions) -> ExitCode {
    match start(options) {
        Ok(context) => shutdown::wait_for_sigterm(&context),
        Err(error) => {
            console::print(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start(options: AgentOptions) -> Result<Arc<AgentContext>> {
    close_on_exec().context("close_range")?;
    let mut ports = Vec::new();
    let mut listeners = Vec::new();
    for number in options.ports {
        let port = inherited(number).map_err(io::Error::from).and_then(HostStream::port);
        ports.push(port.context("--port-fd")?);
    }
    for number in options.listeners {
        let listener = inherited(number).context("--listen-fd")?;
        listeners.push(AgentListener::Unix(UnixListener::from(listener)));
    }
    let root = match options.root {
        Some(root) => std::path::absolute(root),
        None => std::env::current_dir(),
    };
    let root = root.context("the root directory")?;
    nix::sys::prctl::set_child_subreaper(true).context("become a subreaper")?;
    shutdown::block_signals().context("set up signals")?;
    let context = AgentContext::new(AgentMode::Process { root, secrets: options.secrets })?;
    shutdown::end_past_ttl(&context)?;
    for port in ports {
        serve_in_thread(port, &context)?;
    }
    for listener in listeners {
        accept_in_thread(listener, &context)?;
    }
    Ok(context)
}
