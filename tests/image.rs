//! Images, built for real.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use mayfly::image::Verification;
use support::images;

#[test]
fn an_image_has_its_files_and_they_are_what_they_should_be() {
    let image = images::image("debian-base");
    image.verify().unwrap();
    assert_eq!(image.verify().unwrap(), Verification::Unchanged);

    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(image.dir().to_owned()), 0o700);
    assert_eq!(mode(image.kernel()), 0o644);
    assert_eq!(mode(image.initrd()), 0o644);
    assert_eq!(mode(image.rootfs()), 0o444);
    assert_eq!(mode(image.disk_seed()), 0o600);

    assert!(fs::read(image.kernel()).unwrap().starts_with(b"\x7fELF"));
    let recipe = &image.info().recipe;
    let rootfs = fs::metadata(image.rootfs()).unwrap();
    assert_eq!(rootfs.len(), u64::from(recipe.root_mib) << 20);
    let disk = fs::metadata(image.disk_seed()).unwrap();
    assert_eq!(disk.len(), u64::from(recipe.disk_mib) << 20);
    assert!(disk.blocks() * 512 < 4 << 20, "the seed takes {} blocks", disk.blocks());
}
