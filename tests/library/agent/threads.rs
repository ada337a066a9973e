//! Threads and processes that the kernel does not let the agent start.
