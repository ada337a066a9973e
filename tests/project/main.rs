//! The repository against itself: the plan of its source, the files that are generated, the pages that
//! describe the program, and what `make install` installs.
#![expect(clippy::disallowed_methods, reason = "tests start the programs they test by themselves")]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod generated;
mod install;
mod readme;
