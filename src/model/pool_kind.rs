//! Which VMs of the pool fit a request.

use serde_json::json;

use super::manifest::VmManifest;
use super::phase::VmPhase;
use super::record::VmRecord;
use super::time::ClockReading;

/// Seconds that a VM must have left to be taken, so that it does not end while it is.
const MIN_LEFT: f64 = 5.0;

/// A kind of VMs: they differ in nothing that is fixed before they start.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolKind {
    manifest: VmManifest,
    /// The template that they start from; `None` if their backend has none.
    template: Option<String>,
}

impl PoolKind {
    /// The kind of a VM; `None` if VMs like it do not wait in the pool. That is so if they have ports of the host, or
    /// boot although their backend has templates.
    pub fn of(manifest: &VmManifest, template: Option<&str>) -> Option<PoolKind> {
        let boots = template.is_none() && !manifest.image.is_empty();
        let is_possible = manifest.network.publish.is_empty() && !boots;
        let template = template.map(str::to_owned);
        is_possible.then(|| PoolKind { manifest: manifest.clone(), template })
    }

    /// Whether a VM waits in the pool and is of this kind.
    pub fn fits(&self, record: &VmRecord, now: &ClockReading) -> bool {
        let VmPhase::Pooled { instance } = &record.state else { return false };
        instance.template == self.template
            && fixed(&record.manifest) == fixed(&self.manifest)
            && record.expiry.remaining(now) > MIN_LEFT
            // The network helper answers for the name that it was started with.
            && (self.manifest.network.is_none() || self.manifest.name.is_none())
    }

    /// A text that only this kind has.
    pub fn text(&self) -> String {
        json!([self.template, fixed(&self.manifest)]).to_string()
    }
}

/// What cannot be changed in a VM that runs.
fn fixed(manifest: &VmManifest) -> impl PartialEq + serde::Serialize + '_ {
    let VmManifest { profile, image, vcpu_count, mem_mib, disk_mib, network, .. } = manifest;
    let VmManifest { backend, accelerator, nested, jailed, .. } = manifest;
    let machine = (vcpu_count, mem_mib, disk_mib, nested);
    (profile, image, machine, backend, accelerator, jailed, network)
}
