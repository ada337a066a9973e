//! Starting threads. The standard library's shorter functions panic if the kernel allows no more.

use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use crate::model::{Refusal, RefusalKind};

/// Starts a thread that nothing waits for.
///
/// # Errors
/// The kernel allows no more threads.
pub fn start_detached(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    Builder::new().spawn(work).map(drop)
}

/// Starts a thread that its handle waits for.
///
/// # Errors
/// `Host`: the kernel allows no more threads.
pub fn start_owned<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Refusal> {
    Builder::new().spawn(work).map_err(refused)
}

/// Starts a thread that ends before `scope` does.
///
/// # Errors
/// `Host`: the kernel allows no more threads.
pub fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, Refusal> {
    Builder::new().spawn_scoped(scope, work).map_err(refused)
}

fn refused(error: std::io::Error) -> Refusal {
    Refusal::new(RefusalKind::Host, format!("cannot start a thread: {error}")).hint(
        "end other programs, or raise the limit on processes (ulimit -u, pids.max of the cgroup)",
    )
}
