//! mayfly as others call it: make, xargs, git, cron, scripts. The real programs, with their own ideas
//! of exit codes, signals and standard streams.

mod bisect;
mod cron;
mod make;
mod script;
mod xargs;
