//! The flags for the kind of a VM, shared by `create`, `run` and `template build`.

use anyhow::Result;
use clap::Args;
use clap_complete::ArgValueCompleter;

use super::network::NetworkFlags;
use crate::commands::AppContext;
use crate::commands::build_progress::with_build_progress;
use crate::commands::completions::candidates;
use crate::host::signals::PendingSignals;
use crate::lifecycle::{self, CreateRequest, ImageWish, PullPolicy};
use crate::model::{ImageReference, Isolation, MemMib, Refusal};
use crate::settings::{ConfigKey, Settings, ValueOrigin};

const IMAGE_HINT: &str =
    "'--image REF' boots a container image; '--profile PROFILE' what the profile names";

#[derive(Debug, Args)]
#[command(next_help_heading = "The VM")]
pub struct MachineFlags {
    /// Use PROFILE
    ///
    /// 'mayfly profiles' lists all.
    #[arg(
        short, long, value_name = "PROFILE", env = "MAYFLY_PROFILE",
        default_value = "debian-base", add = ArgValueCompleter::new(candidates::profiles)
    )]
    profile: String,

    /// Use the container image REF, pulled if missing
    #[arg(long, value_name = "REF", add = ArgValueCompleter::new(candidates::references))]
    image: Option<ImageReference>,

    /// When to pull it, or the profile's image
    #[arg(long, value_name = "WHEN", value_enum, hide_short_help = true)]
    pull: Option<PullPolicy>,

    /// Give the VM N virtual CPUs
    #[arg(long, value_name = "N", env = "MAYFLY_VCPUS", add = ArgValueCompleter::new(candidates::vcpus))]
    vcpus: Option<u32>,

    /// Give the VM SIZE of memory, such as 512M or 2G
    ///
    /// A bare number is MiB.
    #[arg(long, value_name = "SIZE", env = "MAYFLY_MEM", add = ArgValueCompleter::new(candidates::memory))]
    mem: Option<MemMib>,

    /// Give the VM a disk of SIZE, such as 4G
    ///
    /// A bare number is MiB. The default is the size in the profile's image. Unwritten parts take no
    /// space. A size of its own makes another template.
    #[arg(long, value_name = "SIZE", env = "MAYFLY_DISK", add = ArgValueCompleter::new(candidates::memory))]
    disk: Option<MemMib>,

    /// Fail unless the VM has at least this isolation
    #[arg(
        long,
        value_name = "ISOLATION",
        env = "MAYFLY_REQUIRE",
        value_enum,
        hide_short_help = true
    )]
    require: Option<Isolation>,

    /// As root, run Firecracker without its jailer
    ///
    /// It then has no private root directory, control groups or devices.
    #[arg(long, env = "MAYFLY_NO_JAILER", hide_short_help = true)]
    no_jailer: bool,

    #[command(flatten)]
    network: NetworkFlags,
}

impl MachineFlags {
    /// Pulls the image if necessary, and takes its profile from now on. Returns the context with that profile.
    ///
    /// # Errors
    /// `Usage` for flags that contradict each other, and those of [`lifecycle::provide_image`].
    pub fn provide_image(&mut self, app: &AppContext) -> Result<AppContext> {
        let settings = &app.settings;
        let wish = match self.image.take() {
            Some(_) if names_profile(settings) => {
                let message = "'--image' and '--profile' exclude each other";
                return Err(Refusal::usage(message).hint(IMAGE_HINT).into());
            }
            Some(reference) => ImageWish::Reference(reference),
            None => ImageWish::Profile(self.profile.clone()),
        };
        let is_pulled = |name: &str| {
            settings.profile(name).is_ok_and(|profile| profile.recipe.pulled().is_some())
        };
        if let ImageWish::Profile(name) = &wish
            && !is_pulled(name)
        {
            return match self.pull {
                // A profile that does not exist is refused after the other flags were checked.
                None => Ok(app.clone()),
                Some(_) => {
                    let message = format!(
                        "'--pull' has no meaning for profile {name}, whose image is not pulled"
                    );
                    Err(Refusal::usage(message).hint(IMAGE_HINT).into())
                }
            };
        }
        let (manager, policy) = (app.open()?, self.pull.unwrap_or_default());
        let mut signals = PendingSignals::block()?;
        let provided = with_build_progress(app, &mut signals, |progress| {
            lifecycle::provide_image(&manager, &wish, policy, progress)
        })?;
        self.profile = provided.map_or_else(|| self.profile.clone(), |name| name.to_string());
        Ok(AppContext { settings: settings.reread(), ..app.clone() })
    }

    /// A request for a VM of this kind, without further properties.
    pub fn into_request(self) -> CreateRequest {
        CreateRequest {
            profile: self.profile,
            vcpu_count: self.vcpus,
            mem: self.mem,
            disk: self.disk,
            require: self.require,
            no_jailer: self.no_jailer,
            network: self.network.into_request(),
            ..CreateRequest::default()
        }
    }
}

/// Whether the profile was typed, and does not come from a variable or a file.
fn names_profile(settings: &Settings) -> bool {
    let origin = ConfigKey::find("profile").map(|key| settings.explain(key).1);
    origin == Some(ValueOrigin::Flag)
}
