//! The template that mayfly starts VMs from.

use anyhow::{Context, Result, bail};
use mayfly::template::{LockedTemplate, TemplateClaim, TemplateStore};

use crate::bare::Bench;
use crate::workspace::Workspace;

/// The one of VMs of this kind, made if need be, and held against being deleted; `None` where such VMs
/// only boot.
pub fn of(workspace: &Workspace, bench: &Bench, kind: &[&str]) -> Result<Option<LockedTemplate>> {
    let vm = workspace.start_vm(kind, &[])?;
    let Some(name) = vm.instance()?.template else {
        eprintln!("bench: without warm runs of {}: it has no templates", kind[1..].join(" "));
        return Ok(None);
    };
    let templates = TemplateStore::open(&Workspace::artifacts())?;
    let listed = templates.list()?.into_iter().find(|listed| listed.name == name);
    let info = listed.and_then(|listed| listed.info).context("the VM's template is gone")?;
    match templates.claim(&bench.shape(info.shape))? {
        TemplateClaim::Ready(template) => Ok(Some(template)),
        TemplateClaim::Make(_) | TemplateClaim::Wait => bail!("template {name} is not to be had"),
    }
}
