//! Plain types and the rules about them. Nothing here touches the operating system, so everything
//! here can be tested over every input.

pub mod platform;
pub mod profile;
pub mod refusal;

pub use platform::{Accelerator, BackendKind, Isolation};
pub use profile::{Bounds, Limits, Profile, Profiles, Recipe};
pub use refusal::{Kind, Refusal};
