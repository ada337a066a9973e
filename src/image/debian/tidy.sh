# Run in the sandbox when mmdebstrap has ended; $1 is the new root. Takes away what came from this
# host or serves nobody, so that every guest starts from the same clean system.
set -eu
umask 022
cd "$1"

# The agent gives each VM its own name and id, anew at each start. In memory, because on the disk the
# first write to a file of the image costs a fresh VM tens of milliseconds.
rm -f etc/hostname etc/hosts etc/resolv.conf etc/machine-id var/lib/dbus/machine-id
for file in hostname hosts machine-id; do ln -s "../run/mayfly/$file" "etc/$file"; done
: > etc/resolv.conf
# The agent mounts everything.
: > etc/fstab
mkdir -p etc/default
echo 'LANG=C.UTF-8' > etc/default/locale
echo 'export LANG="${LANG:-C.UTF-8}"' > etc/profile.d/locale.sh
# Nothing listens in a guest, and whoever can type into it is root already.
passwords=etc/passwd
[ ! -e etc/shadow ] || passwords=etc/shadow
sed -i 's/^root:[^:]*:/root::/' "$passwords"
rm -f etc/ssh/ssh_host_*

# How this system was made is no concern of its package manager.
rm -f etc/apt/apt.conf.d/99mmdebstrap
rm -rf var/lib/apt/lists/* var/cache/apt/*.bin var/cache/apt/archives/*.deb
rm -f var/lib/dpkg/*-old var/cache/debconf/*-old var/lib/dpkg/lock* var/cache/ldconfig/aux-cache
find var/log -type f -delete
find dev run tmp -mindepth 1 -delete
