//! The flags for the profile that comes with an image, shared by `image import` and `image pull`.

use clap::Args;

use crate::import::UnpackBounds;
use crate::model::{MemMib, TimeSpan};
use crate::settings::ImportedDefaults;

#[derive(Debug, Args)]
pub struct OwnProfileFlags {
    /// Give its VMs N virtual CPUs
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,

    /// Give its VMs SIZE of memory, such as 512M or 2G
    #[arg(long, value_name = "SIZE")]
    mem: Option<MemMib>,

    /// Let its VMs live for at most DURATION, such as 90s or 1h
    #[arg(long, value_name = "DURATION")]
    ttl: Option<TimeSpan>,

    /// Give its VMs disks of SIZE; unwritten parts take no space
    #[arg(long, value_name = "SIZE")]
    disk: Option<MemMib>,

    /// Unpack at most SIZE
    #[arg(long, value_name = "SIZE", default_value = "64G")]
    max_size: MemMib,

    /// Replace an image of this name even if VMs need it to start again
    #[arg(short, long)]
    pub force: bool,
}

impl OwnProfileFlags {
    /// The defaults of its VMs, without a description.
    pub fn defaults(&self) -> ImportedDefaults {
        ImportedDefaults {
            description: String::new(),
            vcpu_count: self.vcpus,
            mem_mib: self.mem.map(|mem| mem.0),
            ttl_seconds: self.ttl.map(TimeSpan::seconds),
        }
    }

    /// MiB of each VM's own disk.
    pub fn disk_mib(&self) -> Option<u32> {
        self.disk.map(|disk| disk.0)
    }

    /// How much may be unpacked.
    pub fn bounds(&self) -> UnpackBounds {
        UnpackBounds { bytes: u64::from(self.max_size.0) << 20, ..UnpackBounds::default() }
    }
}
