//! Programs that call mayfly: make, xargs, git, cron, scripts. They have their own rules for exit codes, signals and
//! standard streams.

mod bisect;
mod cron;
mod make;
mod script;
mod xargs;
