//! The real agent as a plain process, driven through `mayfly::guest`.

mod commands;
mod extract;
mod harness;
mod hostile;
mod limits;
mod lines;
mod login;
mod streams;
mod tars;
mod threads;
