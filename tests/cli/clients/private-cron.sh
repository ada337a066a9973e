# Debian's cron on a machine of its own, as it were: in a mount namespace with its own crontabs, and with
# programs of its own where administrators put theirs. Called with the directory that holds all these.
set -euo pipefail
exec 2>&1
world=$1

# Cron's lock file, beside which the machine's own has another, and what the false clock shares.
mount -t tmpfs none /run
mount -t tmpfs none /dev/shm
mount --bind "$world/spool/cron" /var/spool/cron
for place in etc/cron.d etc/crontab etc/pam.d/cron usr/sbin usr/local/bin; do
    mount --bind "$world/$place" "/$place"
done
# Two seconds before the next full ten minutes.
now=$(date +%s)
exec env -i PATH=/usr/bin:/bin TZ=UTC FAKETIME="+$((600 - now % 600 - 2))" \
    LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 /usr/sbin/cron -f
