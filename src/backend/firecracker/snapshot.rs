//! The requests to freeze a VM and to resume it (`docs/snapshotting/snapshot-support.md` of Firecracker).

use serde::Serialize;

use super::api::ApiRequest;
use super::configuration::{MEMORY, STATE};

#[derive(Debug, Clone, Copy, Serialize)]
pub struct VmState {
    state: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct CreateSnapshot {
    snapshot_type: &'static str,
    snapshot_path: &'static str,
    mem_file_path: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct LoadSnapshot {
    snapshot_path: &'static str,
    mem_backend: MemoryBackend,
    resume_vm: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct MemoryBackend {
    backend_type: &'static str,
    backend_path: &'static str,
}

/// Stops the guest's CPUs, as freezing requires.
pub const PAUSE: ApiRequest<VmState> = ApiRequest {
    method: "PATCH",
    path: "/vm",
    body: VmState { state: "Paused" },
    purpose: "to pause the VM",
};

/// Writes all of the guest's memory, and the rest of the machine.
pub const CREATE: ApiRequest<CreateSnapshot> = ApiRequest {
    method: "PUT",
    path: "/snapshot/create",
    body: CreateSnapshot { snapshot_type: "Full", snapshot_path: STATE, mem_file_path: MEMORY },
    purpose: "to freeze the VM",
};

/// Maps the memory privately and resumes the guest.
pub const LOAD: ApiRequest<LoadSnapshot> = ApiRequest {
    method: "PUT",
    path: "/snapshot/load",
    body: LoadSnapshot {
        snapshot_path: STATE,
        mem_backend: MemoryBackend { backend_type: "File", backend_path: MEMORY },
        resume_vm: true,
    },
    purpose: "to thaw the VM",
};

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, to_value};

    use super::*;

    fn check<B: Serialize>(request: &ApiRequest<B>, method: &str, path: &str, body: Value) {
        assert_eq!((request.method, request.path), (method, path));
        assert_eq!(to_value(&request.body).unwrap(), body);
    }

    #[test]
    fn requests_to_freeze_and_resume() {
        check(&PAUSE, "PATCH", "/vm", json!({ "state": "Paused" }));
        let create = json!({
            "snapshot_type": "Full", "snapshot_path": "state", "mem_file_path": "memory",
        });
        check(&CREATE, "PUT", "/snapshot/create", create);
        let load = json!({
            "snapshot_path": "state",
            "mem_backend": { "backend_type": "File", "backend_path": "memory" },
            "resume_vm": true,
        });
        check(&LOAD, "PUT", "/snapshot/load", load);
    }
}
