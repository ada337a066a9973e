//! Flags of docker and similar programs, and what to say about each.

/// Verbs that make a VM.
const NEW: &[&str] = &["run", "create"];
/// Verbs that make a VM or run a command in one.
const GUEST: &[&str] = &["run", "create", "start", "exec", "shell"];
const ANY: &[&str] = &[];

const NO_MOUNTS: &str = "VMs share no directories with the host: 'run --copy-in DIR:PATH' copies one in, \
                         'run --copy-out PATH:DIR' copies one out, and 'mayfly cp' does both";
const NETWORK: &str = "'--net egress' lets a VM reach the internet, '--allow HOST:PORT' lets it reach one place, and \
                       without them it has no network";
const PUBLISH: &str = "'--publish 8080:80' lets this host reach port 80 of a VM at its own port 8080, and port 0 of the \
                       host takes a free one";
const NAMES: &str = "a VM's names are looked up as this host looks them up; what is in its /etc/hosts comes first, and \
                     'host' is this host's loopback, for VMs with '--allow host:PORT'";
const ALONE: &str = "VMs share no network: two meet at a published port, with '--publish 8080:80' for one and \
                     '--allow host:8080' for the other";
const AT_CREATION: &str = "a VM's network is set when it is made: give '--net', '--allow' and '--publish' to 'run' or \
                           'create'";

/// Verbs, flags, and the hint; the first that matches is given.
const FLAGS: &[(&[&str], &[&str], &str)] = &[
    (
        &["run"],
        &["-d", "--detach", "--background"],
        "a VM in the background is created and started: \
         mayfly create --name box --keep && mayfly start box",
    ),
    (&["exec"], &["-d", "--detach"], "'exec' waits for its command; put '&' after the whole line"),
    (&["start"], &["-d", "--detach"], "'start' leaves the VM running without this flag"),
    (&["exec", "shell"], &["--detach-keys"], "'~.' at the beginning of a line hangs up"),
    (
        GUEST,
        &["--volume", "--volumes", "--mount", "--volumes-from", "--tmpfs", "--share"],
        NO_MOUNTS,
    ),
    (&["rm"], &["--volumes", "--link"], "'rm' deletes the VM's disk without this flag"),
    (&["start", "exec", "shell"], NETWORK_FLAGS, AT_CREATION),
    (NEW, &["--network", "--internet"], NETWORK),
    (NEW, &["-P", "--publish-all", "--expose", "--port", "--forward"], PUBLISH),
    (NEW, &["--dns", "--dns-search", "--dns-option", "--dns-opt", "--add-host"], NAMES),
    (
        NEW,
        &["--ip", "--ip6", "--link", "--link-local-ip", "--mac-address", "--network-alias"],
        ALONE,
    ),
    (NEW, &["--hostname"], "'--name NAME' is the VM's hostname, too"),
    (
        GUEST,
        &["-m", "--memory", "--memory-swap", "--memory-reservation", "--ram"],
        "'--mem SIZE' of 'run' and 'create' sets the memory, as in '--mem 2G'",
    ),
    (
        GUEST,
        &["--cpus", "--cpu", "--cpuset-cpus", "--cpu-shares", "--cpu-quota", "--smp"],
        "'--vcpus N' of 'run' and 'create' sets the number of CPUs, as in '--vcpus 2'",
    ),
    (&["run"], &["--rm"], "'run' deletes its VM without this flag"),
    (&["exec"], &["--rm"], "'exec' deletes the VM without this flag; '--keep' keeps it"),
    (
        &["create", "start"],
        &["--rm"],
        "a VM is deleted when it expires, or after 'exec' without --keep",
    ),
    (
        &["create", "start"],
        &["-u", "--user", "-w", "--workdir", "-e", "--env", "--env-file", "--entrypoint"],
        "this flag belongs to a command: give it to 'run', 'exec' or 'shell'",
    ),
    (
        &["create", "start"],
        &["-i", "--interactive", "-t", "--tty", "-a", "--attach"],
        "'mayfly shell VM' opens a shell in a VM that was started",
    ),
    (
        GUEST,
        &[
            "--privileged",
            "--cap-add",
            "--cap-drop",
            "--security-opt",
            "--userns",
            "--sysctl",
            "--ulimit",
            "--cgroupns",
            "--pid",
            "--ipc",
            "--group-add",
        ],
        "commands are root in a kernel of their own: there is nothing to grant or to drop",
    ),
    (GUEST, &["--gpus", "--device"], "VMs have no devices of the host"),
    (
        GUEST,
        &["--restart"],
        "mayfly restarts nothing: a VM that has ended stays stopped until 'mayfly start VM'",
    ),
    (ANY, &["--platform", "--arch"], "all VMs are x86-64 Linux"),
    (GUEST, &["--init"], "a VM has an init process without this flag"),
    (GUEST, &["--cidfile"], "'create' prints the VM's id: vm=$(mayfly create)"),
    (
        &["create"],
        &["--timeout"],
        "'--ttl DURATION' is how long the VM lives; '--timeout' of 'run' and 'exec' limits a command",
    ),
    (
        &["stop"],
        &["-t", "--time", "--timeout"],
        "'--grace DURATION' is how long the guest has, as in 'mayfly stop --grace 5s VM'",
    ),
    (&["stop"], &["-f", "--force", "-s", "--signal"], "'--grace 0s' kills the VM at once"),
    (
        &["logs"],
        &["--since", "--until", "-t", "--timestamps", "--details"],
        "a console's log has no times; '--tail N' shows its last lines",
    ),
    (&["logs"], &["--lines"], "'--tail N' shows the last lines"),
    (&["cp"], &["-r", "-R", "--recursive"], "directories are copied without this flag"),
    (
        &["cp"],
        &["-a", "--archive", "-p", "--preserve"],
        "modes and times are kept without this flag; owners are not",
    ),
    (&["status"], &["-a"], "all VMs are listed without this flag, those that have stopped, too"),
    (&["status"], &["-f"], "'--filter KEY=VALUE' lists VMs that match"),
    (ANY, &["--format"], "'--json' prints all fields; 'jq' picks some of them"),
    (ANY, &["--no-trunc"], "nothing is cut short in a pipe or with --json"),
    (
        &["image build"],
        &["-t", "--tag", "--file", "--build-arg", "--target"],
        "an image is built from a profile's packages, not from a Dockerfile; 'mayfly image pull REF' and 'mayfly \
         image import FILE' take a container image",
    ),
    (
        &["image build"],
        &["--no-cache", "--pull"],
        "'--force' builds it again, with the newest packages",
    ),
    (&["image ls", "template ls"], &["-a", "--all"], "all of them are listed without this flag"),
    (ANY, &["-y", "--yes", "--no-prompt"], "mayfly asks no questions"),
    (ANY, &["-D", "--debug", "--log-level"], "'-v' prints what happens"),
    (ANY, &["-H", "--host", "--context"], "mayfly has no daemon: it works on this host"),
];

/// Flags about the network, mayfly's and docker's.
const NETWORK_FLAGS: &[&str] = &[
    "--net",
    "--network",
    "--allow",
    "--publish",
    "-P",
    "--publish-all",
    "--expose",
    "--port",
    "--dns",
    "--dns-search",
    "--dns-option",
    "--dns-opt",
    "--add-host",
    "--ip",
    "--ip6",
    "--link",
    "--mac-address",
    "--network-alias",
];

/// The hint about a flag that the verb does not have.
pub(super) fn about_flag(verb: &str, flag: &str) -> Option<&'static str> {
    let answers = |verbs: &[&str], flags: &[&str]| {
        (verbs.is_empty() || verbs.contains(&verb)) && flags.contains(&flag)
    };
    FLAGS.iter().find(|(verbs, flags, _)| answers(verbs, flags)).map(|(.., hint)| *hint)
}

/// The hint about a value of docker's `--net`, which is a kind of network.
pub(super) fn about_network(value: &str) -> Option<&'static str> {
    match value {
        "host" => Some(
            "a VM never has the host's network: '--net egress' reaches the internet, '--allow host:PORT' a port of \
             this host",
        ),
        "bridge" | "default" | "nat" | "user" | "slirp4netns" | "pasta" => Some(
            "'--net egress' lets a VM reach the internet, but not this host and its networks; '--allow' names more",
        ),
        _ if value.starts_with("container:") => Some(ALONE),
        _ => None,
    }
}

/// The hint about a word that docker's `-v` takes; mayfly's `-v` has no value.
pub fn about_mount(word: &str) -> Option<&'static str> {
    let is_path = |text: &str| text.starts_with(['/', '.', '~']);
    let (before, after) = word.split_once(':')?;
    (is_path(before) || is_path(after)).then_some(
        "'-v' prints what happens, and VMs share no directories with the host: \
         'run --copy-in DIR:PATH' copies one in",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_answered_for_its_verb() {
        assert_eq!(about_flag("run", "--network"), Some(NETWORK));
        assert_eq!(about_flag("exec", "--publish"), Some(AT_CREATION));
        assert_eq!(about_flag("status", "--net"), None);
        assert!(about_flag("stop", "-t").unwrap().contains("--grace"));
        assert!(about_flag("logs", "-t").unwrap().contains("--tail"));
    }

    #[test]
    fn mounts_are_recognized() {
        for (word, is_one) in [("/a:/b", true), ("data:/b:ro", true), ("a:b", false), ("/a", false)]
        {
            assert_eq!(about_mount(word).is_some(), is_one, "{word}");
        }
    }
}
