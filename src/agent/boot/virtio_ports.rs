//! The guest's virtio-serial ports that lead to mayfly.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel lists the ports it knows.
const LIST: &str = "/sys/class/virtio-ports";

/// Where their device files are.
const DEVICES: &str = "/dev";

/// Ours are named this and a number.
const PREFIX: &str = "mayfly.";

/// What the kernel knows of the ports at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct SerialPorts {
    /// The device files of ours.
    pub ours: Vec<PathBuf>,
    /// Ports whose names are still on their way. A device announces all its ports before it names the
    /// first, one message for each: while one has no name, it may be ours.
    pub unnamed: usize,
}

impl SerialPorts {
    /// Looks at this moment's ports.
    pub fn now() -> SerialPorts {
        SerialPorts::listed(Path::new(LIST), Path::new(DEVICES))
    }

    /// Whether no port of ours is still to come.
    pub fn all_here(&self) -> bool {
        !self.ours.is_empty() && self.unnamed == 0
    }

    fn listed(list: &Path, devices: &Path) -> SerialPorts {
        let announced = || fs::read_dir(list).into_iter().flatten().flatten();
        let mut ours = Vec::new();
        let mut others = 0;
        for port in announced() {
            let device = devices.join(port.file_name());
            match fs::read_to_string(port.path().join("name")) {
                Ok(name) if !name.starts_with(PREFIX) => others += 1,
                Ok(_) if device.exists() => ours.push(device),
                _ => {}
            }
        }
        // Counted now: a list from before the first name may lack the last ports.
        let unnamed = announced().count().saturating_sub(ours.len() + others);
        SerialPorts { ours, unnamed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_without_a_name_is_still_to_come() {
        let dir = tempfile::tempdir().unwrap();
        let (list, devices) = (dir.path().join("list"), dir.path().join("dev"));
        let look = || SerialPorts::listed(&list, &devices);
        assert!(!look().all_here(), "no driver yet");

        fs::create_dir(&devices).unwrap();
        let announce = |port: &str| {
            fs::create_dir_all(list.join(port)).unwrap();
            fs::write(devices.join(port), "").unwrap();
        };
        let name = |port: &str, name: &str| fs::write(list.join(port).join("name"), name).unwrap();
        announce("vport0p1");
        announce("vport0p2");
        announce("vport0p3");
        assert!(!look().all_here(), "announced, and not named");

        name("vport0p1", "mayfly.0\n");
        assert_eq!(look(), SerialPorts { ours: vec![devices.join("vport0p1")], unnamed: 2 });
        assert!(!look().all_here(), "the first of them is named");

        name("vport0p2", "mayfly.1\n");
        name("vport0p3", "org.example.other\n");
        assert_eq!(look().ours.len(), 2);
        assert!(look().all_here());
    }

    #[test]
    fn a_port_without_its_device_file_is_still_to_come() {
        let dir = tempfile::tempdir().unwrap();
        let port = dir.path().join("vport0p1");
        fs::create_dir(&port).unwrap();
        fs::write(port.join("name"), "mayfly.0\n").unwrap();
        assert!(!SerialPorts::listed(dir.path(), Path::new("/nowhere")).all_here());
    }
}
