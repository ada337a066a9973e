//! The agent as a plain process of the host, under the mock backend.

use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;

use super::args::AgentOptions;
use super::console;
use super::descriptors::{close_on_exec, inherited};
use super::processes::ChildReaper;
use super::serve::host_stream::HostStream;
use super::serve::listener::AgentListener;
use super::serve::threads::{accept_forever, serve_in_thread};
use super::vm::{AgentContext, AgentMode, shutdown};

/// Serves as a plain process of the host, until SIGTERM, the TTL or a `Shutdown`.
pub fn run(options: AgentOptions) -> ExitCode {
    match start(options) {
        Ok(context) => shutdown::wait_for_sigterm(&context),
        Err(message) => {
            console::print(&message);
            ExitCode::FAILURE
        }
    }
}

fn start(options: AgentOptions) -> Result<Arc<AgentContext>, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    close_on_exec().map_err(|error| failed("close_range", &error))?;
    let mut ports = Vec::new();
    let mut listeners = Vec::new();
    for number in options.ports {
        let fd = inherited(number).map_err(|error| failed("--port-fd", &error))?;
        ports.push(HostStream::port(fd).map_err(|error| failed("--port-fd", &error))?);
    }
    for number in options.listeners {
        let fd = inherited(number).map_err(|error| failed("--listen-fd", &error))?;
        listeners.push(AgentListener::Unix(UnixListener::from(fd)));
    }
    let root = match options.root {
        Some(root) => std::path::absolute(root),
        None => std::env::current_dir(),
    };
    let root = root.map_err(|error| failed("the root directory", &error))?;
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|error| failed("become a subreaper", &error))?;
    shutdown::block_signals().map_err(|error| failed("set up signals", &error))?;
    let mode = AgentMode::Process { root, secrets: options.secrets };
    let context = AgentContext::new(mode, ChildReaper::start())
        .map_err(|error| failed("set up the TTL", &error))?;
    shutdown::end_past_ttl(&context);
    for port in ports {
        serve_in_thread(port, &context);
    }
    for listener in listeners {
        let context = Arc::clone(&context);
        std::thread::spawn(move || accept_forever(&listener, &context));
    }
    Ok(context)
}
