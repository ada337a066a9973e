//! What makes a guest a machine of its own.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::host::clock;
use crate::model::VmRecord;
use crate::protocol::SetupRequest;
use crate::sys::random;

/// What the guest of a VM must know before it serves: its name, new entropy, the time, and with `has_end` when it
/// powers off.
pub fn of(record: &VmRecord, has_end: bool) -> Result<SetupRequest> {
    let remaining = record.expiry.remaining(&clock::now()?).max(0.0);
    Ok(SetupRequest {
        vm_id: record.id().to_string(),
        hostname: record.manifest.hostname(),
        entropy: BASE64.encode(random::bytes::<64>()?),
        ttl_ms: has_end.then_some((remaining * 1000.0) as u64),
        network: !record.manifest.network.is_none(),
        // Read last, to be as current as possible.
        unix_ns: clock::unix_time().as_nanos() as u64,
    })
}
