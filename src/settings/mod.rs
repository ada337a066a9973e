//! What the user set: directories, programs, profiles, and defaults of flags. In order of precedence: flags,
//! variables, files, built-in defaults.

mod complete_profile;
pub(crate) mod config;
mod directories;
mod file_values;
mod flags;
mod imported;
mod layer;
mod network_rules;
mod profiles;
mod resolved;
mod trusted;

pub use config::{
    ConfigFiles, ConfigKey, KEYS, KeyForm, ValueOrigin, own_file, usual as config_files,
};
pub use directories::MayflyDirectories;
pub use flags::SettingOverrides;
pub use imported::{ImportedDefaults, defaults_of as imported_defaults, text as imported_profile};
pub use layer::{LIMIT_KEYS, PROFILE_KEYS, ProfileKey, ProfilesFile};
pub use profiles::{BUILT_IN, load as load_profiles, merge};
pub use resolved::{SettingSources, Settings, find_profile};
