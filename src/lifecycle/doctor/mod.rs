//! `doctor`: what this host can do, and what it lacks.

mod environment;
mod network;

use serde::Serialize;

use super::manager::VmManager;
use crate::backend::{self, BackendReport, installed_agent};
use crate::host::which::HostTool;
use crate::image;
use crate::model::{BackendKind, CheckVerdict, HostCheck, Isolation};
use crate::pull::SKOPEO;

/// What this host can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostDiagnosis {
    /// Whether at least one backend with isolation works.
    pub usable: bool,
    /// The backend of a VM if none is named: what `auto` selects, if that works.
    pub backend: Option<BackendKind>,
    /// That of its VMs.
    pub isolation: Option<Isolation>,
    pub checks: Vec<HostCheck>,
}

/// Checks everything mayfly needs, and changes nothing.
pub fn diagnose(manager: &VmManager) -> HostDiagnosis {
    let report = backend::examine(&manager.programs(), manager.settings.flags.accel);
    let BackendReport { mut checks, chosen } = report;
    let agent = HostCheck::of("agent", CheckVerdict::Failed, agent());
    // Every VM needs the agent.
    let chosen = chosen.filter(|_| agent.verdict == CheckVerdict::Ok);
    checks.push(agent);
    checks.extend(image::tools().iter().map(tool));
    checks.push(tool(&SKOPEO));
    checks.extend(environment::user_namespaces());
    checks.extend(environment::landlock());
    checks.extend(environment::directories(manager));
    checks.extend(network::checks());
    let (backend, isolation) = chosen.unzip();
    HostDiagnosis { usable: chosen.is_some(), backend, isolation, checks }
}

fn agent() -> anyhow::Result<String> {
    let path = installed_agent()?;
    image::check_agent(&path)?;
    Ok(path.display().to_string())
}

/// A tool is needed to build or pull images, not to use them.
fn tool(tool: &HostTool) -> HostCheck {
    HostCheck::of(
        tool.program,
        CheckVerdict::Warning,
        tool.find().map(|path| path.display().to_string()),
    )
}
