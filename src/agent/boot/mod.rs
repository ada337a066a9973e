//! The steps of a guest's boot; [`super::init`] takes them in order.

pub mod kvm;
pub mod modules;
pub mod mounts;
mod run_directories;
pub mod timer;
pub mod virtio_ports;
