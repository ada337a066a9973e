//! What this host can do, and what it lacks.

mod backends;
mod firecracker;
mod places;

use serde::Serialize;

use self::backends::BackendReport;
use super::manager::VmManager;
use crate::host::tool::HostTool;
use crate::image;
use crate::model::{BackendKind, Isolation, Refusal};

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    Ok,
    /// Something is missing that mayfly can do without.
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostCheck {
    pub name: &'static str,
    pub verdict: CheckVerdict,
    pub detail: String,
    pub remedy: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostDiagnosis {
    /// Whether at least one real backend works.
    pub usable: bool,
    /// What VMs run on here if nobody names another: what `auto` takes, if that works.
    pub backend: Option<BackendKind>,
    pub isolation: Option<Isolation>,
    pub checks: Vec<HostCheck>,
}

impl HostCheck {
    fn ok(name: &'static str, detail: impl Into<String>) -> HostCheck {
        HostCheck { name, verdict: CheckVerdict::Ok, detail: detail.into(), remedy: None }
    }

    fn lacks(
        name: &'static str,
        verdict: CheckVerdict,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> HostCheck {
        HostCheck { name, verdict, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn of<E: Into<anyhow::Error>>(
        name: &'static str,
        verdict: CheckVerdict,
        result: Result<String, E>,
    ) -> HostCheck {
        match result {
            Ok(detail) => HostCheck::ok(name, detail),
            Err(error) => {
                let error = error.into();
                let refusal = Refusal::find(&error);
                let remedy = refusal.and_then(|refusal| refusal.hint.clone());
                HostCheck { name, verdict, detail: format!("{error:#}"), remedy }
            }
        }
    }
}

/// Looks at everything mayfly needs, and changes nothing.
pub fn diagnose(manager: &VmManager) -> HostDiagnosis {
    let BackendReport { mut checks, chosen } = backends::look(manager);
    checks.push(HostCheck::of("agent", CheckVerdict::Failed, agent(manager)));
    checks.extend(image::tools().iter().map(tool));
    checks.extend(places::user_namespaces());
    checks.extend(places::directories(manager));
    let (backend, isolation) = chosen.unzip();
    HostDiagnosis { usable: chosen.is_some(), backend, isolation, checks }
}

fn agent(manager: &VmManager) -> anyhow::Result<String> {
    let path = manager.agent()?;
    image::check_agent(&path)?;
    Ok(path.display().to_string())
}

/// A missing tool stops nobody from using images that are built.
fn tool(tool: &HostTool) -> HostCheck {
    HostCheck::of(
        tool.program,
        CheckVerdict::Warning,
        tool.find().map(|path| path.display().to_string()),
    )
}
