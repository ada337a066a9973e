//! Crash campaigns: the real programs are killed and get errors at every moment that can be reached. After each fault,
//! `reap` must put everything in order, and the same verb must succeed again.
//!
//! `MAYFLY_CAMPAIGN` is the share of the full size (1.0 is all; the default is 0.06). `MAYFLY_CAMPAIGN_SEED` repeats
//! a run whose seed a failure printed.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test by themselves")]

mod boots;
mod canaries;
mod cases;
mod chance;
mod checker;
mod crowd;
mod damage;
mod disks;
mod faults;
mod ground;
mod injuries;
mod kills;
mod ledger;
mod machine_faults;
mod network;
mod pool;
mod power;
mod power_disk;
mod power_images;
mod procfs;
mod races;
mod stampede;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod templates;
mod tiny;
mod trace;
mod vmm_death;
