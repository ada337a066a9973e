//! What a command gets, and how its end is reported.

use crate::bench::Bench;

pub fn ends_of_commands_come_back(bench: &Bench) {
    let vm = bench.vm();
    vm.sh("echo out; echo err >&2; exit 7").is(7, "out\n", "err\n");
    vm.sh("exit 255").is(255, "", "");
    vm.sh("kill -KILL $$").is(137, "", "");
    vm.exec(&["--", "true"]).prints("");
    vm.exec(&["--", "no-such-program"]).fails(127, "mayfly: no-such-program: not found\n");
    vm.exec(&["--", "/"]).fails(126, "mayfly: /: [..]\n");
    vm.sh("echo 'no program' > plain && chmod 644 plain").prints("");
    vm.exec(&["--", "./plain"]).fails(126, "mayfly: ./plain: [..]\n");
    vm.exec(&["-w", "/no/where", "--", "true"]).fails(126, "mayfly: [..]/no/where[..]\n");
    vm.exec(&["-u", "no-such-user", "--", "true"]).fails(126, "mayfly: [..]no-such-user[..]\n");
    let json = vm.exec(&["--json", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).json_of(7);
    assert_eq!((&json["stdout"], &json["stderr"]), (&"out\n".into(), &"err\n".into()));
    assert_eq!(json["exit_code"], 7);
}

pub fn commands_get_what_they_are_given(bench: &Bench) {
    let vm = bench.vm();
    vm.exec(&["-e", "A=1", "-e", "B=two words", "-c", "echo $A-$B"]).prints("1-two words\n");
    vm.exec(&["-w", "/usr", "--", "pwd"]).prints("/usr\n");
    vm.exec(&["-c", "shopt -q login_shell && echo ${BASH##*/}"]).prints("bash\n");
    // /etc/profile sets another.
    vm.exec(&["-e", "PATH=/opt/bin:/bin", "-c", "echo $PATH"]).prints("/opt/bin:/bin\n");
    vm.exec(&["--", "printf", "<%s>", "a b", "", "*", "$HOME"]).prints("<a b><><*><$HOME>");
    vm.sh("echo $MAYFLY_VM; cd && pwd -P | wc -l").prints(&format!("{}\n1\n", vm.id));
    // It inherits no variable of the host.
    vm.sh("env | grep -c -e MAYFLY_STATE_DIR -e MAYFLY_BACKEND").is(1, "0\n", "");
    if nix::unistd::geteuid().is_root() || bench.is_machine {
        vm.exec(&["-u", "0", "--", "id", "-u"]).prints("0\n");
    }
    if bench.skips("users of a VM's own need a machine around them") {
        return;
    }
    vm.exec(&["-u", "nobody", "-w", "/", "-c", "id -un; id -u"]).prints("nobody\n65534\n");
    // Programs of that user, and of others that it starts, open the streams by name.
    let log = "echo out > /dev/stdout; echo err | tee /dev/stderr > /dev/null";
    vm.exec(&["-u", "nobody", "-w", "/", "--", "sh", "-c", log]).is(0, "out\n", "err\n");
    vm.exec(&["--", "su", "-s", "/bin/sh", "nobody", "-c", log]).is(0, "out\n", "err\n");
    vm.exec(&["-u", "1234:5678", "-w", "/", "--", "id", "-u"]).prints("1234\n");
    vm.exec(&["-u", "nobody", "-w", "/", "--", "touch", "/root/x"]).is(
        1,
        "",
        "[..]Permission denied\n",
    );
}
