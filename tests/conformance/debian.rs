//! The `debian-build` profile: compiling, packages, and a lot of data.

use crate::support::environment::Environment;

const PROGRAM: &str = "#include <stdio.h>\\nint main(void) { puts(\"compiled\"); return 0; }\\n";

/// Everything in the VM works as on a Debian machine.
#[test]
fn the_build_profile_is_a_debian_machine_to_work_on() {
    let env = Environment::qemu_with("debian-build");
    let id = env.start(&["-p", "debian-build", "--keep", "--mem", "1G"]);
    let sh = |line: &str| env.run(&["exec", &id, "-c", line]);
    sh("id").prints("uid=0(root) gid=0(root) groups=0(root)\n");
    sh("df -P / | tail -1").is(0, "[..] /\n", "");
    sh("python3 -c 'import sys, json, ssl, sqlite3; print(sum(range(10)))'").prints("45\n");
    sh(&format!("printf '{PROGRAM}' > a.c && cc -O2 -Wall -o a a.c && ./a")).prints("compiled\n");
    sh("printf 'all:\\n\\t@echo made\\n' > Makefile && make").prints("made\n");
    sh(
        "set -e; git init -q origin; cd origin; git config user.name t; git config user.email t@t; \
        echo x > file; git add file; git commit -qm first; cd ..; git clone -q origin copy; \
        git -C copy log --format=%s; cat copy/file",
    )
    .prints("first\nx\n");
    // Writes 500 MB to the VM's disk and reads them back.
    sh("set -e; dd if=/dev/zero of=big bs=1M count=500 status=none conv=fsync; stat -c %s big; \
        test $(df --output=used -m / | tail -1) -gt 500")
    .prints("524288000\n");
    sh("test -e /dev/null && test -w /dev/shm && test -r /proc/cpuinfo && mktemp >/dev/null && \
        dpkg -s gcc cmake pkg-config >/dev/null && echo ok")
    .prints("ok\n");
    sh("su -s /bin/sh nobody -c 'id -un'").prints("nobody\n");
    env.rm(&id);
}
