# Run by mmdebstrap after it has installed the packages; $1 is the new root.
#
# Unpacks the kernel of $MAYFLY_KERNEL_PACKAGE into $MAYFLY_KERNEL_DIR/unpacked, and its modules into the
# new root, where modprobe finds them. Installing it would install initramfs-tools and build an initrd.
set -eu
root=$1
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
cd "$MAYFLY_KERNEL_DIR"

depends() {
    apt-cache depends "$1" | sed -n "s/^ *Depends: \($2\)\$/\1/p" | head -n 1
}
case $MAYFLY_KERNEL_PACKAGE in
    # The package of one kernel, not a metapackage.
    linux-image-[0-9]*) image=$MAYFLY_KERNEL_PACKAGE ;;
    *) image=$(depends "$MAYFLY_KERNEL_PACKAGE" 'linux-image-[0-9].*') ;;
esac
if [ -z "$image" ]; then
    echo "the suite has no $MAYFLY_KERNEL_PACKAGE" >&2
    exit 1
fi
# Newer kernels have their modules in another package.
modules=$(depends "$image" 'linux-modules-[0-9].*')
apt-get -qq download "$image" ${modules:+"$modules"} >&2
for package in ./*.deb; do
    dpkg-deb --extract "$package" unpacked
    rm "$package"
done

mkdir -p "$root/usr/lib/modules"
for modules in unpacked/lib/modules unpacked/usr/lib/modules; do
    [ ! -d "$modules" ] || mv "$modules"/* "$root/usr/lib/modules/"
done
for release in "$root"/usr/lib/modules/*; do
    # Drivers of hardware that no VM has: almost half of the full kernel. The few modules elsewhere that
    # depend on them are such drivers, too.
    (
        cd "$release/kernel"
        rm -rf drivers/gpu/drm/amd drivers/gpu/drm/i915 drivers/gpu/drm/nouveau \
            drivers/gpu/drm/radeon drivers/iio drivers/infiniband/hw drivers/media/dvb-frontends \
            drivers/media/i2c drivers/media/pci drivers/media/platform drivers/media/tuners \
            drivers/media/usb drivers/net/ethernet drivers/net/wireless/*/ sound/pci sound/soc \
            sound/usb
    )
    chroot "$root" depmod "${release##*/}"
done
