//! Making a complete profile of what all files say about it.

use super::layer::ProfileLayer;
use super::network_rules;
use crate::model::profile::KERNEL_OF;
use crate::model::{
    CommandDefaults, DebianRecipe, ImageRecipe, Isolation, Profile, ProfileName, PullRecipe,
    Refusal,
};

/// The key that is wrong or missing, and why.
pub(super) type ProfileProblem = (&'static str, String);

impl ProfileLayer {
    /// The complete profile, with `defaults` for what it does not set; or what is wrong with it.
    pub(super) fn complete(
        self,
        name: &ProfileName,
        defaults: &ProfileLayer,
    ) -> Result<Profile, ProfileProblem> {
        let packed = self.packed()?;
        let names_image = self.image.is_some();
        let layer = self.over(defaults.clone());
        let missing = |field: &'static str| (field, format!("it has no {field}"));
        Ok(Profile {
            name: name.clone(),
            recipe: packed.map_or_else(|| layer.recipe(), Ok)?,
            names_image,
            description: layer.description.unwrap_or_default(),
            vcpu_count: layer.vcpu_count.ok_or_else(|| missing("vcpu_count"))?,
            mem_mib: layer.mem_mib.ok_or_else(|| missing("mem_mib"))?,
            ttl_seconds: layer.ttl_seconds.ok_or_else(|| missing("ttl_seconds"))?,
            keep: layer.keep.unwrap_or(false),
            require: layer.require.unwrap_or(Isolation::None),
            nested: layer.nested.unwrap_or(false),
            network: network_rules::settings(layer.network, layer.allow, layer.publish)
                .map_err(|why| ("", why))?,
            command: CommandDefaults {
                entrypoint: layer.entrypoint.unwrap_or_default(),
                cmd: layer.cmd.unwrap_or_default(),
                env: layer.env.unwrap_or_default(),
                user: layer.user,
                workdir: layer.workdir,
            },
        })
    }

    /// What its image is made of, if others packed it.
    fn packed(&self) -> Result<Option<ImageRecipe>, ProfileProblem> {
        let from = match (&self.image, &self.origin) {
            (Some(_), _) => "pulled",
            (None, Some(ImageRecipe::Imported(_))) => "imported",
            (None, Some(_)) => "pulled",
            (None, None) => return Ok(None),
        };
        let ingredients = [
            ("packages", self.packages.is_some()),
            ("suite", self.suite.is_some()),
            ("mirror", self.mirror.is_some()),
            ("kernel", self.kernel.is_some()),
            ("root_mib", self.root_mib.is_some()),
        ];
        let is_own = self.image.is_none();
        let others = [
            ("extends", is_own && self.extends.is_some()),
            ("disk_mib", is_own && self.disk_mib.is_some()),
        ];
        let mut given = ingredients.iter().chain(&others);
        match (given.find(|(_, is_given)| *is_given), &self.image) {
            (Some((field, _)), Some(_)) => {
                Err((field, format!("'image' and {field:?} exclude each other")))
            }
            (Some((field, _)), None) => Err((
                field,
                format!(
                    "its image was {from}, so no file can give it {field}; choose another name"
                ),
            )),
            (None, Some(image)) => {
                let reference =
                    image.parse().map_err(|refusal: Refusal| ("image", refusal.message))?;
                let kernel_of = KERNEL_OF.to_owned();
                let disk_mib = self.disk_mib;
                Ok(Some(ImageRecipe::Pulled(PullRecipe { reference, kernel_of, disk_mib })))
            }
            (None, None) => Ok(self.origin.clone()),
        }
    }

    fn recipe(&self) -> Result<ImageRecipe, ProfileProblem> {
        let missing = |field: &'static str| (field, format!("it has no {field}"));
        let mut packages = self.packages.clone().unwrap_or_default();
        packages.sort();
        packages.dedup();
        Ok(ImageRecipe::Debian(DebianRecipe {
            suite: self.suite.clone().ok_or_else(|| missing("suite"))?,
            mirror: self.mirror.clone(),
            kernel: self.kernel.clone().ok_or_else(|| missing("kernel"))?,
            packages,
            root_mib: self.root_mib.ok_or_else(|| missing("root_mib"))?,
            disk_mib: self.disk_mib.ok_or_else(|| missing("disk_mib"))?,
        }))
    }
}
