# Run in the sandbox after mmdebstrap; $1 is the new root. Removes what came from this host, and what no
# guest needs, so that every guest starts from the same clean system.
set -eu
umask 022
cd "$1"

# The agent writes the VM's name and id at each start. In memory, because the first write to a file of the
# image would take a new VM tens of milliseconds.
rm -f etc/hostname etc/hosts etc/resolv.conf etc/machine-id var/lib/dbus/machine-id
for file in hostname hosts machine-id; do ln -s "../run/mayfly/$file" "etc/$file"; done
: > etc/resolv.conf
# The agent mounts everything.
: > etc/fstab
mkdir -p etc/default
echo 'LANG=C.UTF-8' > etc/default/locale
echo 'export LANG="${LANG:-C.UTF-8}"' > etc/profile.d/locale.sh
# No password for root: nothing listens in a guest, and its user is root already.
passwords=etc/passwd
[ ! -e etc/shadow ] || passwords=etc/shadow
sed -i 's/^root:[^:]*:/root::/' "$passwords"
rm -f etc/ssh/ssh_host_*

# Options and caches of the build.
rm -f etc/apt/apt.conf.d/99mmdebstrap
rm -rf var/lib/apt/lists/* var/cache/apt/*.bin var/cache/apt/archives/*.deb
rm -f var/lib/dpkg/*-old var/cache/debconf/*-old var/lib/dpkg/lock* var/cache/ldconfig/aux-cache
find var/log -type f -delete
find dev run tmp -mindepth 1 -delete
