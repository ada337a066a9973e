//! The virtio-serial ports that connect a guest with mayfly.

use std::fs;
use std::path::{Path, PathBuf};

/// The kernel's list of ports.
const LIST: &str = "/sys/class/virtio-ports";

const DEVICES: &str = "/dev";

/// mayfly's ports are named this and a number.
const PREFIX: &[u8] = b"mayfly.";

/// The ports that the kernel has found so far.
#[derive(Debug, PartialEq, Eq)]
pub struct SerialPorts {
    /// The device files of mayfly's ports.
    pub ours: Vec<PathBuf>,
    /// How many ports have no name yet, and may be mayfly's: a device announces all its ports, one
    /// message each, before it names the first.
    pub unnamed: usize,
}

impl SerialPorts {
    /// Reads the kernel's list.
    pub fn read() -> SerialPorts {
        SerialPorts::read_from(Path::new(LIST), Path::new(DEVICES))
    }

    /// Whether all of mayfly's ports are ready.
    pub fn are_complete(&self) -> bool {
        !self.ours.is_empty() && self.unnamed == 0
    }

    fn read_from(list: &Path, devices: &Path) -> SerialPorts {
        let announced = || fs::read_dir(list).into_iter().flatten().flatten();
        let mut ours = Vec::new();
        let mut others = 0;
        for port in announced() {
            let device = devices.join(port.file_name());
            match fs::read(port.path().join("name")) {
                Ok(name) if !name.starts_with(PREFIX) => others += 1,
                Ok(_) if device.exists() => ours.push(device),
                _ => {}
            }
        }
        // Listed again: a list from before the first name may lack the last ports.
        let unnamed = announced().count().saturating_sub(ours.len() + others);
        SerialPorts { ours, unnamed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_incomplete_while_one_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let (list, devices) = (dir.path().join("list"), dir.path().join("dev"));
        let look = || SerialPorts::read_from(&list, &devices);
        assert!(!look().are_complete(), "no driver yet");

        fs::create_dir(&devices).unwrap();
        let announce = |port: &str| {
            fs::create_dir_all(list.join(port)).unwrap();
            fs::write(devices.join(port), "").unwrap();
        };
        let name = |port: &str, name: &[u8]| fs::write(list.join(port).join("name"), name).unwrap();
        announce("vport0p1");
        announce("vport0p2");
        announce("vport0p3");
        assert!(!look().are_complete(), "announced but not named");

        name("vport0p1", b"mayfly.0\n");
        assert_eq!(look(), SerialPorts { ours: vec![devices.join("vport0p1")], unnamed: 2 });
        assert!(!look().are_complete(), "only the first is named");

        name("vport0p2", b"mayfly.1\n");
        name("vport0p3", b"org.example.\xff\n");
        assert_eq!(look().ours.len(), 2);
        assert!(look().are_complete());
    }

    #[test]
    fn ports_are_incomplete_without_a_device_file() {
        let dir = tempfile::tempdir().unwrap();
        let port = dir.path().join("vport0p1");
        fs::create_dir(&port).unwrap();
        fs::write(port.join("name"), "mayfly.0\n").unwrap();
        assert!(!SerialPorts::read_from(dir.path(), Path::new("/nowhere")).are_complete());
    }
}
