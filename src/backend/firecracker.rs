//! Firecracker: recognised, so that asking for it gets a true answer.

use std::path::Path;

use crate::host::kvm::Kvm;
use crate::host::program;
use crate::model::{Kind, Refusal};

/// Why Firecracker cannot be used here. This release has no way of driving it yet, which is the last
/// thing said, after what the host itself lacks.
pub fn refuse(program: &Path) -> Refusal {
    let refusal = |why: String| {
        Refusal::new(Kind::Host, format!("firecracker cannot be used: {why}"))
            .hint("use '--backend qemu', which works without hardware virtualization")
    };
    if let Some(problem) = Kvm::probe().problem() {
        return refusal(problem);
    }
    match program::find(program) {
        None => refusal(format!("{} is not installed", program.display())),
        Some(_) => refusal("this version of mayfly does not drive it yet".into()),
    }
}
