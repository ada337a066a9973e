//! Where a VM is in its life, with the data that each phase needs.

use serde::{Deserialize, Serialize};

use super::manifest::VmInstance;
use super::process::ProcessPlace;

/// Where a VM is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case", try_from = "PhaseFields")]
pub enum VmPhase {
    Creating,
    Created,
    /// `instance` is set once the launcher's identity is known, before it becomes the VMM.
    Starting {
        instance: Option<VmInstance>,
    },
    Started {
        instance: VmInstance,
    },
    Stopping {
        instance: VmInstance,
    },
    /// It runs, and waits for a command that takes it.
    Pooled {
        instance: VmInstance,
    },
    Stopped {
        last_error: Option<String>,
    },
    Removing {
        instance: Option<VmInstance>,
        reason: String,
    },
    /// It runs, or a command changes it, where this command cannot look. Only shown, never recorded.
    #[serde(skip)]
    Elsewhere {
        place: ProcessPlace,
    },
}

impl VmPhase {
    /// All names.
    pub const NAMES: [&str; 9] = [
        "creating",
        "created",
        "starting",
        "started",
        "stopping",
        "pooled",
        "stopped",
        "removing",
        "elsewhere",
    ];

    /// The name a user sees in `state`.
    pub fn name(&self) -> &'static str {
        match self {
            VmPhase::Creating => "creating",
            VmPhase::Created => "created",
            VmPhase::Starting { .. } => "starting",
            VmPhase::Started { .. } => "started",
            VmPhase::Stopping { .. } => "stopping",
            VmPhase::Pooled { .. } => "pooled",
            VmPhase::Stopped { .. } => "stopped",
            VmPhase::Removing { .. } => "removing",
            VmPhase::Elsewhere { .. } => "elsewhere",
        }
    }

    /// Whether the VM runs, is starting or is stopping; elsewhere it may.
    pub fn is_up(&self) -> bool {
        matches!(
            self,
            VmPhase::Starting { .. }
                | VmPhase::Started { .. }
                | VmPhase::Stopping { .. }
                | VmPhase::Elsewhere { .. }
        )
    }

    /// The recorded process.
    pub fn instance(&self) -> Option<&VmInstance> {
        match self {
            VmPhase::Started { instance }
            | VmPhase::Stopping { instance }
            | VmPhase::Pooled { instance } => Some(instance),
            VmPhase::Starting { instance } | VmPhase::Removing { instance, .. } => {
                instance.as_ref()
            }
            VmPhase::Creating
            | VmPhase::Created
            | VmPhase::Stopped { .. }
            | VmPhase::Elsewhere { .. } => None,
        }
    }
}

/// A phase as it is written. Reading this takes half as long as what serde makes of an enum with a tag, which first
/// stores all fields in a form that fits any variant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PhaseFields {
    phase: PhaseTag,
    instance: Option<VmInstance>,
    last_error: Option<String>,
    reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PhaseTag {
    Creating,
    Created,
    Starting,
    Started,
    Stopping,
    Pooled,
    Stopped,
    Removing,
}

impl TryFrom<PhaseFields> for VmPhase {
    type Error = &'static str;

    fn try_from(fields: PhaseFields) -> Result<VmPhase, &'static str> {
        use PhaseTag::{Created, Creating, Pooled, Removing, Started, Starting, Stopped, Stopping};
        let PhaseFields { phase, instance, last_error, reason } = fields;
        Ok(match (phase, instance, last_error, reason) {
            (Creating, None, None, None) => VmPhase::Creating,
            (Created, None, None, None) => VmPhase::Created,
            (Starting, instance, None, None) => VmPhase::Starting { instance },
            (Started, Some(instance), None, None) => VmPhase::Started { instance },
            (Stopping, Some(instance), None, None) => VmPhase::Stopping { instance },
            (Pooled, Some(instance), None, None) => VmPhase::Pooled { instance },
            (Stopped, None, last_error, None) => VmPhase::Stopped { last_error },
            (Removing, instance, None, Some(reason)) => VmPhase::Removing { instance, reason },
            _ => return Err("the phase lacks a field, or has one of another phase"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, ProcessId};

    #[test]
    fn each_phase_reads_back_as_it_was_written() {
        let boot_id = BootId("boot".into());
        let process = ProcessId { pid: 7, start_ticks: 8, boot_id, place: None };
        let instance = VmInstance::new(process);
        for phase in [
            VmPhase::Creating,
            VmPhase::Created,
            VmPhase::Starting { instance: None },
            VmPhase::Starting { instance: Some(instance.clone()) },
            VmPhase::Started { instance: instance.clone() },
            VmPhase::Stopping { instance: instance.clone() },
            VmPhase::Pooled { instance: instance.clone() },
            VmPhase::Stopped { last_error: None },
            VmPhase::Stopped { last_error: Some("it broke".into()) },
            VmPhase::Removing { instance: Some(instance), reason: "expired".into() },
        ] {
            let text = serde_json::to_string(&phase).unwrap();
            assert_eq!(serde_json::from_str::<VmPhase>(&text).unwrap(), phase, "{text}");
        }
    }

    #[test]
    fn a_phase_with_other_fields_than_its_own_is_refused() {
        for text in [
            r#"{}"#,
            r#"{"phase":"elsewhere"}"#,
            r#"{"phase":"started"}"#,
            r#"{"phase":"started","instance":null}"#,
            r#"{"phase":"created","reason":"expired"}"#,
            r#"{"phase":"removing","instance":null}"#,
            r#"{"phase":"stopped","last_error":null,"more":1}"#,
        ] {
            assert!(serde_json::from_str::<VmPhase>(text).is_err(), "{text}");
        }
    }
}
