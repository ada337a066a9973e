//! What can be set in `config.toml`: one table for the files' reader, `config show` and the manual.
//!
//! A key is called as its variable is, in small letters and without `MAYFLY_`.

use std::time::Duration;

use clap::ValueEnum;
use toml::de::DeValue;

use crate::model::{Accelerator, BackendChoice, Isolation, MemMib, Span};

/// A key.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub form: Form,
    /// What holds if nobody says anything; `None` where that depends on something else.
    pub built_in: Option<&'static str>,
    /// The flag of the same meaning, and the verbs that have it.
    pub flag: Option<&'static str>,
    /// For the manual.
    pub about: &'static str,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// One of a few words.
    Choice(fn() -> Vec<String>),
    Switch,
    Count,
    /// An amount of memory.
    Size,
    Span,
    /// An absolute path, or one below the user's home.
    Path,
    /// The same, or a name to be looked for on `PATH`.
    Program,
    Text,
}

/// All keys, in the order of the manual.
pub static KEYS: [Key; 21] = [
    Key {
        name: "backend",
        form: Form::Choice(words::<BackendChoice>),
        built_in: Some("auto"),
        flag: Some("--backend"),
        about: "What new VMs run on. 'auto' is Firecracker where that can work, else QEMU.",
    },
    Key {
        name: "accel",
        form: Form::Choice(words::<Accelerator>),
        built_in: None,
        flag: None,
        about: "The accelerator that new VMs must have. Without it, the best there is.",
    },
    Key {
        name: "profile",
        form: Form::Text,
        built_in: Some("debian-base"),
        flag: Some("--profile of create, run and template build"),
        about: "What new VMs are made of.",
    },
    Key {
        name: "vcpus",
        form: Form::Count,
        built_in: None,
        flag: Some("--vcpus of create, run and template build"),
        about: "How many virtual CPUs a new VM has, whatever its profile says.",
    },
    Key {
        name: "mem",
        form: Form::Size,
        built_in: None,
        flag: Some("--mem of create, run and template build"),
        about: "How much memory a new VM has, whatever its profile says.",
    },
    Key {
        name: "ttl",
        form: Form::Span,
        built_in: None,
        flag: Some("--ttl of create and run"),
        about: "How long a new VM lives at most, whatever its profile says.",
    },
    Key {
        name: "keep",
        form: Form::Switch,
        built_in: None,
        flag: Some("--keep of create, run and exec"),
        about: "Whether a VM is kept after its command, whatever its profile says. A VM that was created \
                to be kept is kept in any case.",
    },
    Key {
        name: "require",
        form: Form::Choice(words::<Isolation>),
        built_in: None,
        flag: Some("--require of create, run and template build"),
        about: "The least isolation a new VM may have. What its profile requires holds as well.",
    },
    Key {
        name: "no_jailer",
        form: Form::Switch,
        built_in: Some("false"),
        flag: Some("--no-jailer of create, run and template build"),
        about: "Whether root runs Firecracker without its jailer.",
    },
    Key {
        name: "cold",
        form: Form::Switch,
        built_in: Some("false"),
        flag: Some("--cold of start and run"),
        about: "Whether VMs boot instead of starting from templates.",
    },
    Key {
        name: "grace",
        form: Form::Span,
        built_in: Some("10s"),
        flag: Some("--grace of stop"),
        about: "How long a guest may take to end by itself.",
    },
    Key {
        name: "color",
        form: Form::Choice(|| ["auto", "always", "never"].map(str::to_owned).into()),
        built_in: Some("auto"),
        flag: Some("--color"),
        about: "When to print in colours. With 'auto' NO_COLOR, CLICOLOR and CLICOLOR_FORCE count, and \
                what is no terminal gets none.",
    },
    Key {
        name: "max_active_vms",
        form: Form::Count,
        built_in: None,
        flag: None,
        about: "How many VMs there may be, whatever limits.max_active_vms in profiles.toml says.",
    },
    Key {
        name: "state_dir",
        form: Form::Path,
        built_in: None,
        flag: Some("--state-dir"),
        about: "Where the registry and the VMs' disks are.",
    },
    Key {
        name: "artifacts_dir",
        form: Form::Path,
        built_in: None,
        flag: None,
        about: "Where images and templates are.",
    },
    Key {
        name: "runtime_dir",
        form: Form::Path,
        built_in: None,
        flag: None,
        about: "Where sockets are; must be a short path.",
    },
    Key {
        name: "profiles",
        form: Form::Path,
        built_in: None,
        flag: None,
        about: "One more file of profiles, which wins over the others.",
    },
    Key {
        name: "debian_mirror",
        form: Form::Text,
        built_in: None,
        flag: None,
        about: "Where images' packages come from, if their profile does not say it.",
    },
    Key {
        name: "qemu_bin",
        form: Form::Program,
        built_in: Some("qemu-system-x86_64"),
        flag: None,
        about: "The program to use as qemu-system-x86_64.",
    },
    Key {
        name: "firecracker_bin",
        form: Form::Program,
        built_in: Some("firecracker"),
        flag: None,
        about: "The program to use as firecracker.",
    },
    Key {
        name: "jailer_bin",
        form: Form::Program,
        built_in: Some("jailer"),
        flag: None,
        about: "The program to use as Firecracker's jailer.",
    },
];

impl Key {
    /// The key of that name.
    pub fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The environment variable of the same meaning.
    pub fn variable(&self) -> String {
        format!("MAYFLY_{}", self.name.to_uppercase())
    }
}

impl Form {
    /// A value in the form in which flags and variables have it; `None` if it is none of this form.
    pub(super) fn read(self, value: &DeValue<'_>) -> Option<String> {
        let text = match value {
            DeValue::String(text) if !matches!(self, Form::Switch | Form::Count) => {
                text.clone().into_owned()
            }
            DeValue::Boolean(value) if matches!(self, Form::Switch) => value.to_string(),
            DeValue::Integer(number) if matches!(self, Form::Count | Form::Size | Form::Span) => {
                i64::from_str_radix(number.as_str(), number.radix()).ok()?.to_string()
            }
            _ => return None,
        };
        let good = match self {
            Form::Choice(words) => words().contains(&text),
            Form::Switch => true,
            Form::Count => text.parse::<u32>().is_ok(),
            Form::Size => text.parse::<MemMib>().is_ok(),
            Form::Span => text.parse::<Span>().is_ok(),
            Form::Path => return at_home(&text).filter(|path| path.starts_with('/')),
            Form::Program => {
                return at_home(&text).filter(|path| path.starts_with('/') || !path.contains('/'));
            }
            Form::Text => true,
        };
        // Nothing at all is what an empty variable stands for, and no value.
        Some(text).filter(|text| good && !text.is_empty() && !text.contains('\0'))
    }

    /// What a value must be, in words.
    pub fn expected(self) -> String {
        match self {
            Form::Choice(words) => {
                let words: Vec<String> = words().iter().map(|word| format!("{word:?}")).collect();
                words.join(" or ")
            }
            Form::Switch => "true or false".into(),
            Form::Count => "a number".into(),
            Form::Size => "a size such as \"512M\" or \"2G\", or a number of MiB".into(),
            Form::Span => format!(
                "a duration such as {:?} or \"1h30m\", or a number of seconds",
                Span(Duration::from_secs(90)).to_string()
            ),
            Form::Path => "an absolute path, or one that begins with \"~/\"".into(),
            Form::Program => {
                "a program's name, an absolute path, or one that begins with \"~/\"".into()
            }
            Form::Text => "a text".into(),
        }
    }
}

/// A path, with a leading `~` resolved.
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
