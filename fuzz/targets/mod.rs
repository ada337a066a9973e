//! What untrusted bytes reach, one function for each kind of them.
//!
//! A target is given any bytes and panics if mayfly does something wrong with them. That is more than a panic in
//! mayfly itself: it allocates more than the input justifies, writes outside of the directory it was given, reads
//! back something else than it wrote, takes a lie for a success, or makes an error of several lines.
//!
//! `make fuzz` searches for such bytes, and [`replay`] gives the targets the inputs in `fuzz/corpus`.

mod allocation;
mod archives;
mod images;
mod network;
mod protocol;
#[cfg(test)]
mod replay;
mod scratch;
mod settings;
mod state;
mod text;
mod vmm;

use crate::output::ErrorReport;

/// A target's name, which is also that of its program and of its corpus, and its function.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[FuzzTarget] = &[
    ("frames", protocol::frames),
    ("messages", protocol::messages),
    ("session", protocol::session),
    ("pax", archives::pax_records),
    ("stream", archives::stream),
    ("members", archives::members),
    ("extract", archives::extract_members),
    ("layer", images::layer),
    ("compressed", images::compressed),
    ("layout", images::layout),
    ("image_archive", images::archive),
    ("kernel", images::kernel_image),
    ("initrd", images::initrd_modules),
    ("profiles", settings::profiles),
    ("config", settings::config_file),
    ("imported_profile", settings::imported_profile),
    ("registry", state::registry),
    ("records", state::records),
    ("qmp", vmm::qmp),
    ("firecracker_api", vmm::firecracker_api),
    ("vsock", vmm::vsock_handshake),
    ("text", text::foreign_text),
    ("guest_frames", network::guest_frames),
    ("dns", network::dns),
];

/// Gives a target its input.
///
/// # Panics
/// There is no such target, or mayfly did something wrong.
pub fn run(target: &str, input: &[u8]) {
    let (_, act) = TARGETS.iter().find(|(name, _)| *name == target).expect("it is in TARGETS");
    act(input);
}

/// Checks that an error is shown in one short line, so that bytes which are repeated in it cannot look like a line of
/// mayfly's own. Lines that it quotes are marked.
fn check_error(error: impl Into<anyhow::Error>) {
    let report = ErrorReport::of(&error.into());
    let (first, quoted) = report.message.split_once('\n').unwrap_or((&report.message, ""));
    assert!(quoted.lines().all(|line| line.starts_with("  ")), "a line without a mark: {quoted:?}");
    for text in [first, report.hint.as_deref().unwrap_or_default()] {
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\t'),
            "several lines, or an escape sequence: {text:?}"
        );
        assert!(text.len() < 16 << 10, "an error of {} bytes", text.len());
    }
}
