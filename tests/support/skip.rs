//! Tests that cannot run here.

/// Says that a test is skipped because this machine lacks something that `make test` installs or that
/// needs rights. Where `CI` is set, nothing may be skipped, so there it is a failure.
#[track_caller]
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!ci, "CI is set, and a test cannot run: {why}");
}
