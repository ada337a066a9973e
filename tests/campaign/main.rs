//! Crash campaigns: the real programs, killed, starved and lied to at every moment that can be
//! reached, and after each of it the same question: is everything in order once `reap` has run?
//!
//! `MAYFLY_CAMPAIGN` is the share of the full size that is run (1.0 is all, a tenth by default), and
//! `MAYFLY_CAMPAIGN_SEED` repeats a run whose seed a failure printed.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test by themselves")]

mod boots;
mod chance;
mod checker;
mod crowd;
mod damage;
mod faults;
mod ground;
mod kills;
mod ledger;
mod procfs;
mod races;
mod stampede;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod templates;
mod trace;
mod vmm_death;
