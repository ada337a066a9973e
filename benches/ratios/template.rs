//! The template that mayfly starts VMs from.

use anyhow::{Context, Result, bail};
use mayfly::template::{LockedTemplate, TemplateClaim, TemplateStore};

use crate::bare::BareLauncher;
use crate::workspace::Workspace;

/// The template of VMs of this kind, made if necessary, and locked so that it is not deleted. `None` if
/// such VMs always boot.
pub fn of(
    workspace: &Workspace,
    launcher: &BareLauncher,
    kind: &[&str],
) -> Result<Option<LockedTemplate>> {
    let vm = workspace.start_vm(kind, &[])?;
    let Some(name) = vm.instance()?.template else {
        eprintln!("bench: no warm runs of {}: it has no templates", kind[1..].join(" "));
        return Ok(None);
    };
    let templates = TemplateStore::open(&Workspace::artifacts())?;
    let listed = templates.list()?.into_iter().find(|listed| listed.name == name);
    let info = listed.and_then(|listed| listed.info).context("the VM's template is gone")?;
    match templates.claim(&launcher.shape(info.shape))? {
        TemplateClaim::Ready(template) => Ok(Some(template)),
        TemplateClaim::Make(_) | TemplateClaim::Wait => bail!("template {name} is not available"),
    }
}
