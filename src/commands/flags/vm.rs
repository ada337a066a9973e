//! The flags for a new VM, shared by `create` and `run`.

use anyhow::Result;
use clap::Args;
use clap_complete::ArgValueCompleter;

use super::job_labels::job_labels;
use super::machine::MachineFlags;
use crate::commands::AppContext;
use crate::commands::completions::candidates;
use crate::lifecycle::CreateRequest;
use crate::model::{ProcessId, TimeSpan, VmLabel, VmLabels, VmName};

#[derive(Debug, Args)]
#[command(next_help_heading = "The VM")]
pub struct VmFlags {
    #[command(flatten)]
    machine: MachineFlags,

    /// Let the VM live for DURATION, such as 90s or 1h
    ///
    /// A bare number is seconds. The VM then powers itself off; the next 'reap', 'create' or 'run' deletes
    /// it.
    #[arg(long, value_name = "DURATION", env = "MAYFLY_TTL", add = ArgValueCompleter::new(candidates::ttls))]
    ttl: Option<TimeSpan>,

    /// If too many VMs exist, wait up to DURATION
    ///
    /// Commands get places in the order in which they began to wait.
    #[arg(
        long, value_name = "DURATION", env = "MAYFLY_WAIT_SLOT",
        add = ArgValueCompleter::new(candidates::durations)
    )]
    wait_slot: Option<TimeSpan>,

    /// Name the VM NAME; this is also its hostname
    ///
    /// Letters, digits and hyphens.
    #[arg(long, value_name = "NAME")]
    name: Option<VmName>,

    /// Give the VM a label; may be given several times
    ///
    /// KEY alone means an empty value. A VM can have 16 labels.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<VmLabel>,
}

impl VmFlags {
    /// As [`MachineFlags::provide_image`].
    pub fn provide_image(&mut self, app: &AppContext) -> Result<AppContext> {
        self.machine.provide_image(app)
    }

    /// The request for a VM.
    ///
    /// # Errors
    /// `Usage` for more labels than a VM can have.
    pub fn into_request(
        self,
        keep: Option<bool>,
        owner: Option<ProcessId>,
    ) -> Result<CreateRequest> {
        let with_job = job_labels().into_iter().chain(self.labels.iter().cloned());
        // A label of the user's replaces the job's, and there may be no room for both.
        let labels = VmLabels::collect(with_job).or_else(|_| VmLabels::collect(self.labels))?;
        let (ttl, wait_slot, name) = (self.ttl, self.wait_slot, self.name);
        Ok(CreateRequest {
            ttl,
            wait_slot,
            name,
            labels,
            keep,
            owner,
            ..self.machine.into_request()
        })
    }
}
