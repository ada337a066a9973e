//! The keys of `config.toml`: one table for the files' parser, `config show` and the manual.
//!
//! A key is named like its variable, in lower case and without `MAYFLY_`.

use std::time::Duration;

use clap::ValueEnum;
use toml::de::DeValue;

use crate::model::{Accelerator, BackendChoice, Isolation, MemMib, NetworkMode, TimeSpan};
use crate::settings::directories::home;

/// A key.
#[derive(Debug)]
pub struct ConfigKey {
    pub name: &'static str,
    pub form: KeyForm,
    /// The built-in default; `None` if it depends on something else.
    pub built_in: Option<&'static str>,
    /// The flag with the same meaning, and the verbs that have it.
    pub flag: Option<&'static str>,
    /// The description in the manual.
    pub about: &'static str,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub enum KeyForm {
    /// One of a few words.
    Choice(fn() -> Vec<String>),
    Switch,
    Count,
    /// An amount of memory.
    Size,
    Span,
    /// An absolute path, or one that begins with `~/`.
    Path,
    /// A [`KeyForm::Path`], or a name to look up in `PATH`.
    Program,
    Text,
}

/// All keys, in the order of the manual.
pub static KEYS: [ConfigKey; 25] = [
    key(
        "backend",
        KeyForm::Choice(words::<BackendChoice>),
        "The backend of new VMs. 'auto' is Firecracker if it works on this host, otherwise QEMU.",
    )
    .built_in("auto")
    .flag("--backend"),
    key(
        "accel",
        KeyForm::Choice(words::<Accelerator>),
        "The accelerator that new VMs must have; by default the best one.",
    ),
    key("profile", KeyForm::Text, "The profile of new VMs.")
        .built_in("debian-base")
        .flag("--profile of create, run, template build and pool fill"),
    key("vcpus", KeyForm::Count, "The number of virtual CPUs of a new VM. Overrides its profile.")
        .flag("--vcpus of create, run, template build and pool fill"),
    key("mem", KeyForm::Size, "The memory of a new VM. Overrides its profile.")
        .flag("--mem of create, run, template build and pool fill"),
    key("disk", KeyForm::Size, "The size of a new VM's own disk. Overrides its image's.")
        .flag("--disk of create, run, template build and pool fill"),
    key(
        "net",
        KeyForm::Choice(words::<NetworkMode>),
        "What a new VM reaches. Overrides its profile; 'none' also turns off what that allows and publishes.",
    )
    .flag("--net of create, run, template build and pool fill"),
    key("ttl", KeyForm::Span, "How long a new VM lives at most. Overrides its profile.")
        .flag("--ttl of create and run"),
    key(
        "wait_slot",
        KeyForm::Span,
        "How long create and run wait for a place if max_active_vms is reached. 0 is not at all.",
    )
    .flag("--wait-slot of create and run"),
    key(
        "keep",
        KeyForm::Switch,
        "Whether a VM is kept after its command. Overrides its profile, but a VM that was created \
                with --keep is always kept.",
    )
    .flag("--keep of create, run and exec"),
    key(
        "require",
        KeyForm::Choice(words::<Isolation>),
        "The least isolation that a new VM may have, in addition to what its profile requires.",
    )
    .flag("--require of create, run, template build and pool fill"),
    key("no_jailer", KeyForm::Switch, "Whether root runs Firecracker without its jailer.")
        .built_in("false")
        .flag("--no-jailer of create, run, template build and pool fill"),
    key("cold", KeyForm::Switch, "Whether VMs boot instead of starting from templates.")
        .built_in("false")
        .flag("--cold of create, start and run"),
    key("grace", KeyForm::Span, "How long a guest has to shut down before it is killed.")
        .built_in("10s")
        .flag("--grace of stop"),
    key(
        "color",
        KeyForm::Choice(|| ["auto", "always", "never"].map(str::to_owned).into()),
        "When to use colours. 'auto' uses them on terminals, and respects NO_COLOR, CLICOLOR and \
                CLICOLOR_FORCE.",
    )
    .built_in("auto")
    .flag("--color"),
    key(
        "max_active_vms",
        KeyForm::Count,
        "How many VMs may exist. Overrides limits.max_active_vms in profiles.toml.",
    ),
    key(
        "pool",
        KeyForm::Count,
        "How many VMs of a kind to keep waiting. 'run' and 'create --start' start more after they have used one, in the \
                background. 0 is none.",
    )
    .built_in("0"),
    key("state_dir", KeyForm::Path, "The directory of the registry and the VMs' disks.")
        .flag("--state-dir"),
    key("artifacts_dir", KeyForm::Path, "The directory of images and templates."),
    key("runtime_dir", KeyForm::Path, "The directory of sockets; its path must be short."),
    key("profiles", KeyForm::Path, "One more file of profiles, which overrides the others."),
    key(
        "debian_mirror",
        KeyForm::Text,
        "Where packages of images come from, if their profile names no mirror.",
    ),
    key("qemu_bin", KeyForm::Program, "The program to use as qemu-system-x86_64.")
        .built_in("qemu-system-x86_64"),
    key("firecracker_bin", KeyForm::Program, "The program to use as firecracker.")
        .built_in("firecracker"),
    key("jailer_bin", KeyForm::Program, "The program to use as Firecracker's jailer.")
        .built_in("jailer"),
];

const fn key(name: &'static str, form: KeyForm, about: &'static str) -> ConfigKey {
    ConfigKey { name, form, built_in: None, flag: None, about }
}

impl ConfigKey {
    const fn built_in(self, value: &'static str) -> ConfigKey {
        ConfigKey { built_in: Some(value), ..self }
    }

    const fn flag(self, flag: &'static str) -> ConfigKey {
        ConfigKey { flag: Some(flag), ..self }
    }

    /// The key of that name.
    pub fn find(name: &str) -> Option<&'static ConfigKey> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The environment variable with the same meaning.
    pub fn variable(&self) -> String {
        format!("MAYFLY_{}", self.name.to_uppercase())
    }
}

impl KeyForm {
    /// A value as its flag and variable have it; `None` if it does not have this form.
    pub(super) fn read(self, value: &DeValue<'_>) -> Option<String> {
        let text = match value {
            DeValue::String(text) if !matches!(self, KeyForm::Switch | KeyForm::Count) => {
                text.clone().into_owned()
            }
            DeValue::Boolean(value) if matches!(self, KeyForm::Switch) => value.to_string(),
            DeValue::Integer(number)
                if matches!(self, KeyForm::Count | KeyForm::Size | KeyForm::Span) =>
            {
                i64::from_str_radix(number.as_str(), number.radix()).ok()?.to_string()
            }
            _ => return None,
        };
        let good = match self {
            KeyForm::Choice(words) => words().contains(&text),
            KeyForm::Switch => true,
            KeyForm::Count => text.parse::<u32>().is_ok(),
            KeyForm::Size => text.parse::<MemMib>().is_ok(),
            KeyForm::Span => text.parse::<TimeSpan>().is_ok(),
            KeyForm::Path => return at_home(&text).filter(|path| path.starts_with('/')),
            KeyForm::Program => {
                return at_home(&text).filter(|path| path.starts_with('/') || !path.contains('/'));
            }
            KeyForm::Text => true,
        };
        // An empty variable counts as unset, so a value cannot be empty.
        Some(text).filter(|text| good && !text.is_empty() && !text.contains('\0'))
    }

    /// What a value must be, in words.
    pub fn expected(self) -> String {
        match self {
            KeyForm::Choice(words) => {
                let words: Vec<String> = words().iter().map(|word| format!("{word:?}")).collect();
                words.join(" or ")
            }
            KeyForm::Switch => "true or false".into(),
            KeyForm::Count => "a number".into(),
            KeyForm::Size => "a size such as \"512M\" or \"2G\", or a number of MiB".into(),
            KeyForm::Span => format!(
                "a duration such as {:?} or \"1h30m\", or a number of seconds",
                TimeSpan(Duration::from_secs(90)).to_string()
            ),
            KeyForm::Path => "an absolute path, or one that begins with \"~/\"".into(),
            KeyForm::Program => {
                "a program's name, an absolute path, or one that begins with \"~/\"".into()
            }
            KeyForm::Text => "a text".into(),
        }
    }
}

/// A path, with a leading `~/` resolved.
fn at_home(path: &str) -> Option<String> {
    match path.strip_prefix("~/") {
        Some(rest) => {
            let home = home()?.into_os_string().into_string().ok()?;
            Some(format!("{}/{rest}", home.trim_end_matches('/')))
        }
        None => Some(path.to_owned()).filter(|path| !path.is_empty()),
    }
}

fn words<T: ValueEnum>() -> Vec<String> {
    let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    values.map(|value| value.get_name().to_owned()).collect()
}
