//! What a VM's own directory says about it. A lost registry can be rebuilt from that.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::atomic_file;
use crate::host::input;
use crate::host::seal::{seal, unseal};
use crate::model::{Refusal, RefusalKind, VmId, VmInstance, VmManifest, VmPaths};
use crate::sys::file_system::if_exists;

/// Writes the manifest, and replaces an earlier one as a whole. After a power failure, a VM that belongs to a command is
/// deleted with or without one, so its directory is not synced.
pub fn write_manifest(path: &Path, manifest: &VmManifest) -> Result<()> {
    let belongs_to_command = manifest.owner.is_some();
    let replace =
        if belongs_to_command { atomic_file::replace_unsynced } else { atomic_file::replace };
    replace(path, &to_bytes(manifest)?).map(drop)
}

/// Writes down which process becomes the VMM, before it does. After a power failure there is none, so the
/// directory is not synced.
pub fn write_instance(path: &Path, instance: &VmInstance) -> Result<()> {
    atomic_file::replace_unsynced(path, &to_bytes(instance)?).map(drop)
}

fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(seal(serde_json::to_vec(value).context("cannot serialize a VM's description")?))
}

/// The manifest of the VM `id`, and the process that was last started for it; `None` if there is no manifest,
/// because the VM's creation did not finish or its deletion did.
///
/// # Errors
/// A file is there and cannot be read, or its content cannot be trusted. The VM may be alive.
pub fn read_vm_files(
    paths: &VmPaths,
    id: &VmId,
) -> Result<Option<(VmManifest, Option<VmInstance>)>> {
    let Some(manifest) = read::<VmManifest>(&paths.manifest())? else { return Ok(None) };
    if manifest.vm_id != *id {
        return Err(unreadable(&paths.manifest(), &format!("it is that of VM {}", manifest.vm_id)));
    }
    Ok(Some((manifest, read(&paths.instance())?)))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = if_exists(input::read_regular(path));
    let bytes = bytes.map_err(|error| unreadable(path, &error.to_string()))?;
    let Some(bytes) = bytes else {
        // A link to nothing is no missing file.
        return if path.is_symlink() { Err(unreadable(path, "it is a link")) } else { Ok(None) };
    };
    // Older files have no seal.
    let unsealed = unseal(&bytes).map_err(|why| unreadable(path, &why))?;
    let value = serde_json::from_slice(unsealed.as_deref().unwrap_or(&bytes));
    value.map(Some).map_err(|error| unreadable(path, &error.to_string()))
}

fn unreadable(path: &Path, why: &str) -> anyhow::Error {
    let message = format!("{} is damaged, or a newer mayfly wrote it: {why}", path.display());
    Refusal::new(RefusalKind::Failure, message).into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::state_tests::process;

    #[test]
    fn a_file_that_is_there_is_never_taken_for_a_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = VmManifest::sample();
        let id = manifest.vm_id.clone();
        let paths = VmPaths { dir: dir.path().into(), run: dir.path().into() };
        assert_eq!(read_vm_files(&paths, &id).unwrap(), None);
        write_manifest(&paths.manifest(), &manifest).unwrap();
        assert_eq!(read_vm_files(&paths, &id).unwrap(), Some((manifest.clone(), None)));
        let instance = VmInstance::new(process(7));
        write_instance(&paths.instance(), &instance).unwrap();
        let whole = Some((manifest.clone(), Some(instance)));
        assert_eq!(read_vm_files(&paths, &id).unwrap(), whole);

        // As an older mayfly wrote it.
        fs::write(paths.manifest(), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
        assert_eq!(read_vm_files(&paths, &id).unwrap(), whole);
        let other = "0123456789ab".parse().unwrap();
        assert!(read_vm_files(&paths, &other).is_err());
        let sealed = to_bytes(&manifest).unwrap();
        let with_more = [b"{\"later\":1,", &serde_json::to_vec(&manifest).unwrap()[1..]].concat();
        for bad in [b"".to_vec(), b"{".to_vec(), seal(with_more), sealed[..sealed.len() / 2].into()]
        {
            fs::write(paths.manifest(), &bad).unwrap();
            assert!(read_vm_files(&paths, &id).is_err(), "{bad:?}");
        }
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone();
            bytes[at] ^= 1;
            fs::write(paths.manifest(), &bytes).unwrap();
            assert!(read_vm_files(&paths, &id).is_err(), "byte {at}");
        }
        fs::write(paths.manifest(), &sealed).unwrap();
        fs::remove_file(paths.instance()).unwrap();
        fs::create_dir(paths.instance()).unwrap();
        assert!(read_vm_files(&paths, &id).is_err());
        fs::remove_dir(paths.instance()).unwrap();
        fs::remove_file(paths.manifest()).unwrap();
        std::os::unix::fs::symlink("nowhere", paths.manifest()).unwrap();
        assert!(read_vm_files(&paths, &id).is_err());
    }
}
