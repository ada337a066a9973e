# Run by mmdebstrap when the packages are installed; $1 is the new root.
#
# Fetches the kernel that $MAYFLY_KERNEL_PACKAGE stands for, without installing it: its installation
# would pull in initramfs-tools and build an initrd nobody needs. The kernel ends up in
# $MAYFLY_KERNEL_DIR/unpacked, its modules in the new root, where modprobe finds them.
set -eu
root=$1
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
cd "$MAYFLY_KERNEL_DIR"

depends() {
    apt-cache depends "$1" | sed -n "s/^ *Depends: \($2\)\$/\1/p" | head -n 1
}
case $MAYFLY_KERNEL_PACKAGE in
    # A kernel itself, for who wants just that one.
    linux-image-[0-9]*) image=$MAYFLY_KERNEL_PACKAGE ;;
    *) image=$(depends "$MAYFLY_KERNEL_PACKAGE" 'linux-image-[0-9].*') ;;
esac
if [ -z "$image" ]; then
    echo "the suite has no $MAYFLY_KERNEL_PACKAGE" >&2
    exit 1
fi
# Newer kernels have their modules in a package beside the image.
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
    # The bulk of what drives hardware that no VM here has: near half of the full kernel. What is made
    # of software stays, and the few modules elsewhere that build on these drive such hardware too.
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
