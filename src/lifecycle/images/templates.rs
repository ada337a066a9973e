//! `template ls` and `template rm`, and deleting templates that are no longer useful. `start` makes them.

use anyhow::Result;

use crate::host::clock;
use crate::image::ImageStore;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::removal::{RemovalReport, RemovedThing};
use crate::model::record::reason;
use crate::model::{ProfileName, Refusal, RefusalKind};
use crate::template::{ListedTemplate, TemplateInfo};

/// All templates, by name. Creates no directory.
pub fn list_templates(manager: &VmManager) -> Result<Vec<ListedTemplate>> {
    manager.templates_if_any()?.map_or_else(|| Ok(Vec::new()), |templates| templates.list())
}

/// Deletes a template. Running VMs keep its files, which they have open. Returns whether there was one.
///
/// # Errors
/// `Busy` while it is being made or started from; `NotFound` if there is none, unless `force`.
pub fn remove_template(manager: &VmManager, name: &str, force: bool) -> Result<bool> {
    let templates = manager.templates_if_any()?;
    let deleted = templates.map_or(Ok(false), |templates| templates.remove(name))?;
    if !deleted && !force {
        let templates = list_templates(manager)?;
        return Err(Refusal::new(RefusalKind::NotFound, format!("no template {name:?}"))
            .hint_at_nearest(
                name,
                templates.iter().map(|listed| listed.name.as_str()),
                "'mayfly template ls' lists all templates",
            )
            .into());
    }
    Ok(deleted)
}

/// Deletes templates that were not used for as long as the profiles allow, and those of images that are
/// gone. Skips templates in use. With `dry_run`, nothing is deleted.
pub fn prune(manager: &VmManager, dry_run: bool) -> Result<Vec<RemovalReport>> {
    let limit = manager.settings.profiles()?.limits.template_unused_seconds as f64;
    let now = clock::unix_time().as_secs_f64();
    let is_unused = |listed: &ListedTemplate| now - listed.last_used > limit;
    let pruned = prune_if(manager, dry_run, |images, listed| {
        is_unused(listed) || is_superseded(images, listed.info.as_ref())
    })?;
    let report = |listed: ListedTemplate| {
        let reason = if is_unused(&listed) { reason::UNUSED } else { reason::IMAGE_GONE };
        RemovalReport::of(RemovedThing::Template(listed.name), reason, dry_run)
    };
    Ok(pruned.into_iter().map(report).collect())
}

/// Deletes the templates of a profile's image after it was replaced or deleted.
pub fn prune_superseded(manager: &VmManager, profile: &ProfileName) -> Result<()> {
    let is_useless = |images: &ImageStore, listed: &ListedTemplate| {
        is_superseded(images, listed.info.as_ref().filter(|info| info.profile == *profile))
    };
    prune_if(manager, false, is_useless).map(drop)
}

/// Deletes the templates whose image is gone or belongs to one of the profiles in `gone`. With
/// `dry_run`, they are only found.
pub fn prune_without_images(
    manager: &VmManager,
    gone: &[ProfileName],
    dry_run: bool,
) -> Result<Vec<ListedTemplate>> {
    prune_if(manager, dry_run, |images, listed| {
        let is_gone = |info: &TemplateInfo| gone.contains(&info.profile);
        listed.info.as_ref().is_some_and(is_gone) || is_superseded(images, listed.info.as_ref())
    })
}

fn prune_if(
    manager: &VmManager,
    dry_run: bool,
    is_useless: impl Fn(&ImageStore, &ListedTemplate) -> bool,
) -> Result<Vec<ListedTemplate>> {
    let Some(templates) = manager.templates_if_any()? else { return Ok(Vec::new()) };
    let images = manager.images()?;
    templates.prune(|listed| is_useless(&images, listed), dry_run)
}

/// Whether the image of a template is gone. The image's description is read each time: a maker of
/// templates locks the image, so the two cannot differ by chance.
fn is_superseded(images: &ImageStore, info: Option<&TemplateInfo>) -> bool {
    let Some(info) = info else { return false };
    match images.info(&info.profile) {
        Ok(image) => !image.is_some_and(|image| info.is_of(&image)),
        // An image that cannot be read now may be readable later.
        Err(_) => false,
    }
}
