//! The programs under test: those of this build, or those in `MAYFLY_TEST_PROGRAMS` if the tests run on another
//! machine than the one that built them.

use std::path::{Path, PathBuf};

/// The directory in `MAYFLY_TEST_PROGRAMS`.
pub fn brought() -> Option<PathBuf> {
    std::env::var_os("MAYFLY_TEST_PROGRAMS").map(PathBuf::from)
}

pub fn mayfly() -> PathBuf {
    found("mayfly", env!("CARGO_BIN_EXE_mayfly"))
}

pub fn agent() -> PathBuf {
    found("mayfly-agent", env!("CARGO_BIN_EXE_mayfly-agent"))
}

fn found(name: &str, built: &str) -> PathBuf {
    brought().map_or_else(|| Path::new(built).to_owned(), |directory| directory.join(name))
}
