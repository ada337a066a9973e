//! The network of a new VM: what its user asked for and what its profile has.

use anyhow::Result;

use crate::backend::Backend;
use crate::model::{
    AllowRule, NetworkMode, NetworkSettings, Profile, PublishedPort, Refusal, RefusalKind,
};
use crate::settings::Settings;

/// The network that a user asked for, in addition to the profile's.
#[derive(Debug, Clone, Default)]
pub struct NetworkRequest {
    pub mode: Option<NetworkMode>,
    pub allow: Vec<AllowRule>,
    pub publish: Vec<PublishedPort>,
}

impl NetworkRequest {
    /// The network of a VM of this profile. Mode `None` turns off all that the profile has.
    pub fn over(&self, profile: &Profile) -> NetworkSettings {
        let base = match self.mode {
            Some(NetworkMode::None) => NetworkSettings::default(),
            _ => profile.network.clone(),
        };
        NetworkSettings {
            mode: self.mode.unwrap_or(base.mode),
            allow: with(base.allow, &self.allow),
            publish: with(base.publish, &self.publish),
        }
    }

    /// Checks what the user asked for; the profile's own network was checked when it was read.
    ///
    /// # Errors
    /// `Usage` if it is more than the limit allows.
    pub fn check_limit(&self, settings: &Settings) -> Result<()> {
        let limit = settings.profiles()?.limits.network;
        let asked = NetworkSettings {
            mode: self.mode.unwrap_or_default(),
            allow: self.allow.clone(),
            publish: self.publish.clone(),
        };
        if asked.needs() <= limit {
            return Ok(());
        }
        let what = if asked.mode == NetworkMode::Egress {
            format!("{} egress", settings.source("net"))
        } else if asked.allow.is_empty() {
            "--publish".to_owned()
        } else {
            "--allow".to_owned()
        };
        let hint = format!("raise [limits] network in {}", settings.limit_place("network")?);
        let message = format!("{what} is more network than a VM may have, which is {limit}");
        Err(Refusal::usage(message).hint(hint).into())
    }
}

/// A list and what is added to it.
fn with<T: Clone + PartialEq>(mut list: Vec<T>, more: &[T]) -> Vec<T> {
    for one in more {
        if !list.contains(one) {
            list.push(one.clone());
        }
    }
    list
}

/// Checks that the backend can give its VMs a network.
///
/// # Errors
/// `Host` if it cannot.
pub fn check_backend(network: &NetworkSettings, backend: &dyn Backend) -> Result<(), Refusal> {
    if network.is_none() || backend.network_link().is_some() {
        return Ok(());
    }
    let message = format!("VMs of the {} backend have no network", backend.kind());
    Err(Refusal::new(RefusalKind::Host, message)
        .hint("use '--backend qemu', or '--net none' for a VM without a network"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(mode: NetworkMode, allow: &[&str], publish: &[&str]) -> NetworkSettings {
        NetworkSettings {
            mode,
            allow: allow.iter().map(|rule| rule.parse().unwrap()).collect(),
            publish: publish.iter().map(|ports| ports.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn flags_add_to_the_profile_and_none_turns_it_off() {
        use NetworkMode::{Egress, None as Nothing};
        let mut profile = Profile::sample("p".parse().unwrap(), "bookworm");
        profile.network = network(Egress, &["a.example"], &["1:1"]);
        for (mode, allow, publish, expected) in [
            (None, &[][..], &[][..], profile.network.clone()),
            (
                None,
                &["b.example", "a.example"][..],
                &["2:2"][..],
                network(Egress, &["a.example", "b.example"], &["1:1", "2:2"]),
            ),
            (Some(Nothing), &[], &[], NetworkSettings::default()),
            (Some(Nothing), &["b.example"], &[], network(Nothing, &["b.example"], &[])),
            (Some(Egress), &[], &[], profile.network.clone()),
        ] {
            let flags = network(Nothing, allow, publish);
            let request = NetworkRequest { mode, allow: flags.allow, publish: flags.publish };
            assert_eq!(request.over(&profile), expected, "{mode:?} {allow:?}");
        }
    }
}
