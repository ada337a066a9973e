#!/usr/bin/env bash
# A working day of a script: every verb, and nothing to go by but exit codes and JSON. Any command that
# fails, or succeeds where it should not, ends it. Called in a directory to work in.
set -euo pipefail

# fails CODE COMMAND…: what a script does about a failure it expects.
fails() {
    local wanted=$1 code=0
    shift
    "$@" || code=$?
    [ "$code" -eq "$wanted" ] || { echo "expected $wanted, got $code from: $*" >&2; return 1; }
}
# is FILTER [COMMAND…]: what must be true of the JSON a command prints.
is() {
    local filter=$1
    shift
    "$@" | jq --exit-status --slurp ".[0] | $filter" > /dev/null ||
        { echo "not so: $filter, of: $*" >&2; return 1; }
}
kind() { jq --raw-output .error.kind "$1"; }

# What there is: this host, its profiles, an image.
is .usable mayfly doctor --json
is 'map(.profile) | index("debian-base") != null' mayfly profiles --json
is '.[0].value == "debian-base"' mayfly config show profile --json
[ "$(basename "$(mayfly config path)")" = config.toml ]
is '.path | endswith("config.toml")' mayfly config path --json
is '.profile == "debian-base" and .bytes > 0' mayfly image build --json debian-base
is 'any(.profile == "debian-base")' mayfly image ls --json
is '.[0].key == "ttl" and .[0].value == 600 and .[0].unit == "seconds"' mayfly config show --json ttl
is '.profile == "debian-git" and (.deleted | not) and .reason == "absent"' mayfly image rm --json --force debian-git
fails 3 mayfly image rm --json debian-git 2> error.json
[ "$(kind error.json)" = not_found ]

# A template, so that what follows is quick.
template=$(mayfly template build --json | jq --raw-output .template)
is "any(.template == \"$template\" and (.damaged | not))" mayfly template ls --json

# A VM that waits for the next command.
waiting=$(mayfly pool fill --json | jq --raw-output .vm_id)
is "map(.vm_id) == [\"$waiting\"] and .[0].state == \"pooled\"" mayfly pool ls --json
is ".vm_id == \"$waiting\" and .timings_ms.pool > 0" mayfly run --json -- true
is 'length == 0' mayfly pool drain --json

# One command in a VM of its own.
is '.exit_code == 0 and .stdout == "hello\n" and .cleanup.deleted' mayfly run --json -- echo hello
fails 3 mayfly run --json -c 'echo no >&2; exit 3' > answer.json
is '.exit_code == 3 and .stderr == "no\n" and .error == null' cat answer.json
fails 124 mayfly run --json --timeout 100ms -- sleep 60 > answer.json
is '.ended_by == "timeout" and .error.kind == "timed_out"' cat answer.json
fails 125 mayfly run --json --profile nonsense -- true 2> error.json
[ "$(kind error.json)" = not_found ]

# The same in steps.
vm=$(mayfly create --json --name ci --label job=7 --ttl 10m --keep | jq --raw-output .vm_id)
is '.ttl_seconds > 600' mayfly extend --json ci 20m
is '.name == "box" and .labels.job == "7"' mayfly rename --json ci box
fails 4 mayfly create --json --name box 2> error.json
[ "$(kind error.json)" = name_taken ]
fails 125 mayfly exec --json box -- true 2> error.json
[ "$(kind error.json)" = wrong_state ]
is ".state == \"started\" and .vm_id == \"$vm\"" mayfly start --json box
fails 4 mayfly start --json box 2> error.json
is '.exit_code == 0 and .ended_by == "exit" and .backend == "qemu" and .cleanup == null' mayfly exec --json box -c 'echo here > /root/here'
is '.stdout == "here\n"' mayfly exec --json box -- cat /root/here
is ".vm_id == \"$vm\" and .exit_code == 0" mayfly exec --json --all --label job=7 -- test -e /root/here
[ "$(mayfly exec --all -- cat /root/here)" = 'box | here' ]
fails 125 mayfly exec --json --all --label job=8 -- true 2> error.json
is ".vm_id == \"$vm\" and .disk.bytes > 0 and .network.state == \"none\"" mayfly inspect --json box
is 'length == 0' mayfly port --json box
is '.bytes > 0 and (.groups | any(.kind == "vms" and .count == 1))' mayfly df --json
is '.files == 1' mayfly cp --json box:/root/here there
[ "$(< there)" = here ]
fails 3 mayfly cp --json box:/root/nowhere there 2> error.json
# A shell is for people: it wants a terminal, and has nothing to say in JSON.
fails 125 mayfly shell box < /dev/null 2> error
fails 3 script --quiet --return --command 'mayfly shell box -- sh -c "exit 3"' /dev/null > error
is '.state == "started"' mayfly wait --json --for started box
fails 4 mayfly wait --json --timeout 100ms box 2> error.json
fails 125 mayfly shell box < /dev/null 2> error.json
script --quiet --return --command 'mayfly shell box -- test -t 0' /dev/null < /dev/null
is '.state == "stopped"' mayfly stop --json box
is '.state == "stopped"' mayfly wait --json box
mayfly logs --raw --vmm box > log
is '.state == "stopped"' mayfly stop --json box
is "length == 1 and .[0].vm_id == \"$vm\" and .[0].keep" mayfly status --json
[ "$(mayfly status --watch --json --filter label=job=7 | head -n 1 | jq length)" = 1 ]
is ".vm_id == \"$vm\" and .deleted" mayfly rm --json box
fails 3 mayfly rm --json box 2> error.json
is '.deleted == false' mayfly rm --json --force box
is 'length == 0' mayfly status --json --filter label=job

# A container's image, made as one makes them, beside images that others use.
mkdir -m 700 images
cp --archive "$MAYFLY_ARTIFACTS_DIR/debian-base" images/
export MAYFLY_ARTIFACTS_DIR=$PWD/images
mkdir -p tree/bin
# Debian has a busybox with libraries, and one without.
libraries=$(ldd /bin/busybox 2> error | grep --only-matching '/[^ ]*' || true)
cp --parents --dereference /bin/busybox $libraries tree
umoci init --layout app
umoci new --image app:v1
umoci insert --rootless --image app:v1 tree / 2> error
umoci config --image app:v1 --config.entrypoint /bin/busybox --config.cmd sh \
    --config.cmd -c --config.cmd 'echo $GREETING $PWD' --config.env GREETING=hello --config.workingdir /srv
tar --directory app --create --file app.tar .
is '.profile == "app" and .recipe.imported.form == "oci"' mayfly image import --json --mem 256M app.tar
is '.exit_code == 0 and .stdout == "hello /srv\n"' mayfly run --json --cold --profile app
head --bytes=100K app.tar > cut.tar
fails 2 mayfly image import --json cut.tar 2> error.json
[ "$(kind error.json)" = usage ]
fails 6 mayfly image pull --json 127.0.0.1:1/other 2> error.json
[ "$(kind error.json)" = host ]
is '.deletions == []' mayfly image prune --json
is .deleted mayfly image rm --json app

# Clearing up.
is '.count == 0' mayfly reap --json
is 'length == 0' mayfly rm --all --json
is 'length == 0' mayfly stop --all --json
fails 2 mayfly completions --json bash 2> error.json
is '.deleted == false' mayfly template rm --json --force debian-base-000000000000
fails 3 mayfly template rm --json debian-base-000000000000 2> error.json
mayfly completions bash | bash -n
