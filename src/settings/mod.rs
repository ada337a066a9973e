//! What the user set: directories, programs, profiles. Flags win over variables, variables over
//! defaults.

mod directories;
mod profiles;
mod resolved;

pub use directories::Directories;
pub use profiles::{BUILT_IN, Layer, load as load_profiles, merge};
pub use resolved::{Overrides, Settings, find_profile};
