//! Secrets and variables of a command.

use std::fs;

use crate::bench::Bench;
use crate::support::canary::Canary;
use crate::support::processes;

pub fn a_secret_is_seen_by_its_command_and_found_nowhere(bench: &Bench) {
    let vm = bench.vm();
    let env = vm.env;
    let secret = Canary::new(env.root(), "secret", "", "\n");
    // Larger than a frame.
    let long = Canary::new(env.root(), "long", &"x".repeat(100_000), &"y".repeat(100_000));
    let word = Canary::new(env.root(), "variables", "# words\nWORD=", "\n");
    let given = |canary: &Canary, name: &str| format!("{name}={}", canary.file.display());
    let script = r#"cd "$MAYFLY_SECRETS" && stat -c "%n %a %U %F" . * && cat token > /dev/null &&
        sha256sum long && printf %s "$WORD" | sha256sum && sync && echo ready && read line"#;
    let mut exec = vm.live(&[
        "-i",
        "--secret",
        &given(&secret, "token"),
        "--secret",
        &given(&long, "long"),
        "--env-file",
        word.file.to_str().unwrap(),
        "--",
        "sh",
        "-c",
        script,
    ]);
    let said = exec.says("ready");
    let sum = |bytes: &[u8]| {
        use sha2::Digest;
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    for expected in [
        ". 700 root directory\n".to_owned(),
        "token 400 root regular file\n".to_owned(),
        format!("{}  long\n", sum(&fs::read(&long.file).unwrap())),
        format!("{}  -\n", sum(word.text.as_bytes())),
    ] {
        let expected = if bench.is_machine { expected } else { expected.replace("root", &me()) };
        assert!(said.contains(&expected), "{expected:?} in {said}");
    }
    // On mock, the command is a process of the host and has the variables.
    let told = |pid| !bench.is_machine && processes::command_line(pid).contains("sha256sum");
    let mut places = vec![env.state(), env.home(), env.images().join("templates")];
    if bench.is_machine {
        places.push(env.runtime());
    } else {
        // On mock, secrets are files in memory that only their user can read.
        let found = secret.places(&[env.runtime()], &told);
        assert!(matches!(&found[..], [one] if one.ends_with("/token")), "{found:?}");
    }
    for canary in [&secret, &long, &word] {
        assert_eq!(canary.places(&places, &told), [""; 0]);
    }
    // Other commands do not see it, and can have a secret of the same name at the same time.
    vm.sh("ls -A /run/secrets 2> /dev/null; echo ${MAYFLY_SECRETS-none}").prints("none\n");
    let other = vm.feed_to(&["--secret", "token=-", "-c", "cat $MAYFLY_SECRETS/token"], b"other");
    other.prints("other");
    exec.write(b"\n");
    exec.end().is(0, "[..]", "");
    if bench.is_machine {
        let by_nobody = ["-u", "nobody", "-w", "/", "--secret", &given(&secret, "token")];
        let look = [
            "--",
            "sh",
            "-c",
            "stat -c '%a %U' $MAYFLY_SECRETS/token | cat; cat < $MAYFLY_SECRETS/token | wc -c",
        ];
        vm.exec(&[&by_nobody[..], &look].concat()).prints("400 nobody\n33\n");
        // The search finds text on the VM's disk.
        let leak = Canary::new(env.root(), "leak", "", "");
        vm.feed("cat > leak && sync", leak.text.as_bytes()).prints("");
        let found = leak.places(&places, &|_| false);
        // In a jail the disk has a second path.
        assert!(found.iter().any(|path| path.ends_with("/disk.img")), "{found:?}");
        // Mounts of a command with secrets are visible to all commands.
        let token = given(&secret, "token");
        vm.exec(&["--secret", &token, "--", "mount", "-t", "tmpfs", "none", "/mnt"]).prints("");
        vm.sh("stat -f -c %T /mnt").prints("tmpfs\n");
    }
    env.run(&["stop", &vm.id]).prints(&format!("{}\n", vm.id));
    places.push(env.runtime());
    for canary in [&secret, &long, &word] {
        assert_eq!(canary.places(&places, &|_| false), [""; 0]);
    }
}

fn me() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name
}
