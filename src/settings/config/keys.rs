//! The keys of `config.toml`: one table for the files' parser, `config show` and the manual.
//!
//! A key is named like its variable, in lower case and without `MAYFLY_`.

use std::time::Duration;

use clap::ValueEnum;
use toml::de::DeValue;

use crate::model::{Accelerator, BackendChoice, Isolation, MemMib, TimeSpan};

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
    /// The same, or a name to look up in `PATH`.
    Program,
    Text,
}

/// All keys, in the order of the manual.
pub static KEYS: [ConfigKey; 21] = [
    ConfigKey {
        name: "backend",
        form: KeyForm::Choice(words::<BackendChoice>),
        built_in: Some("auto"),
        flag: Some("--backend"),
        about: "The backend of new VMs. 'auto' is Firecracker if it works on this host, otherwise QEMU.",
    },
    ConfigKey {
        name: "accel",
        form: KeyForm::Choice(words::<Accelerator>),
        built_in: None,
        flag: None,
        about: "The accelerator that new VMs must have; by default the best one.",
    },
    ConfigKey {
        name: "profile",
        form: KeyForm::Text,
        built_in: Some("debian-base"),
        flag: Some("--profile of create, run and template build"),
        about: "The profile of new VMs.",
    },
    ConfigKey {
        name: "vcpus",
        form: KeyForm::Count,
        built_in: None,
        flag: Some("--vcpus of create, run and template build"),
        about: "The number of virtual CPUs of a new VM. Overrides its profile.",
    },
    ConfigKey {
        name: "mem",
        form: KeyForm::Size,
        built_in: None,
        flag: Some("--mem of create, run and template build"),
        about: "The memory of a new VM. Overrides its profile.",
    },
    ConfigKey {
        name: "ttl",
        form: KeyForm::Span,
        built_in: None,
        flag: Some("--ttl of create and run"),
        about: "How long a new VM lives at most. Overrides its profile.",
    },
    ConfigKey {
        name: "keep",
        form: KeyForm::Switch,
        built_in: None,
        flag: Some("--keep of create, run and exec"),
        about: "Whether a VM is kept after its command. Overrides its profile, but a VM that was created \
                with --keep is always kept.",
    },
    ConfigKey {
        name: "require",
        form: KeyForm::Choice(words::<Isolation>),
        built_in: None,
        flag: Some("--require of create, run and template build"),
        about: "The least isolation that a new VM may have, in addition to what its profile requires.",
    },
    ConfigKey {
        name: "no_jailer",
        form: KeyForm::Switch,
        built_in: Some("false"),
        flag: Some("--no-jailer of create, run and template build"),
        about: "Whether root runs Firecracker without its jailer.",
    },
    ConfigKey {
        name: "cold",
        form: KeyForm::Switch,
        built_in: Some("false"),
        flag: Some("--cold of start and run"),
        about: "Whether VMs boot instead of starting from templates.",
    },
    ConfigKey {
        name: "grace",
        form: KeyForm::Span,
        built_in: Some("10s"),
        flag: Some("--grace of stop"),
        about: "How long a guest has to shut down before it is killed.",
    },
    ConfigKey {
        name: "color",
        form: KeyForm::Choice(|| ["auto", "always", "never"].map(str::to_owned).into()),
        built_in: Some("auto"),
        flag: Some("--color"),
        about: "When to use colours. 'auto' uses them on terminals, and respects NO_COLOR, CLICOLOR and \
                CLICOLOR_FORCE.",
    },
    ConfigKey {
        name: "max_active_vms",
        form: KeyForm::Count,
        built_in: None,
        flag: None,
        about: "How many VMs may exist. Overrides limits.max_active_vms in profiles.toml.",
    },
    ConfigKey {
        name: "state_dir",
        form: KeyForm::Path,
        built_in: None,
        flag: Some("--state-dir"),
        about: "The directory of the registry and the VMs' disks.",
    },
    ConfigKey {
        name: "artifacts_dir",
        form: KeyForm::Path,
        built_in: None,
        flag: None,
        about: "The directory of images and templates.",
    },
    ConfigKey {
        name: "runtime_dir",
        form: KeyForm::Path,
        built_in: None,
        flag: None,
        about: "The directory of sockets; its path must be short.",
    },
    ConfigKey {
        name: "profiles",
        form: KeyForm::Path,
        built_in: None,
        flag: None,
        about: "One more file of profiles, which overrides the others.",
    },
    ConfigKey {
        name: "debian_mirror",
        form: KeyForm::Text,
        built_in: None,
        flag: None,
        about: "Where packages of images come from, if their profile names no mirror.",
    },
    ConfigKey {
        name: "qemu_bin",
        form: KeyForm::Program,
        built_in: Some("qemu-system-x86_64"),
        flag: None,
        about: "The program to use as qemu-system-x86_64.",
    },
    ConfigKey {
        name: "firecracker_bin",
        form: KeyForm::Program,
        built_in: Some("firecracker"),
        flag: None,
        about: "The program to use as firecracker.",
    },
    ConfigKey {
        name: "jailer_bin",
        form: KeyForm::Program,
        built_in: Some("jailer"),
        flag: None,
        about: "The program to use as Firecracker's jailer.",
    },
];

impl ConfigKey {
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
            let home = std::env::var("HOME").ok().filter(|home| home.starts_with('/'))?;
            Some(format!("{}/{rest}", home.trim_end_matches('/')))
        }
        None => Some(path.to_owned()).filter(|path| !path.is_empty()),
    }
}

fn words<T: ValueEnum>() -> Vec<String> {
    let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    values.map(|value| value.get_name().to_owned()).collect()
}
