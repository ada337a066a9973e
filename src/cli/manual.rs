//! What is to be said about the program as a whole. `mayfly --help` and mayfly(1) say all of it, and
//! a test holds it against the code.

/// For `-h`: how it is used.
pub const EXAMPLES: &str = "\
Examples:
  mayfly run -- uname -a                      run a command in a VM of its own
  mayfly run -p debian-build -- cc --version  with a compiler in it
  echo hello | mayfly run -i -- cat           with standard input

  mayfly create --name box --keep             the same in steps:
  mayfly start box
  mayfly cp notes.txt box:
  mayfly exec box -- ls /
  mayfly shell box                            at a terminal
  mayfly rm box";

/// For `--help`: the rest. A line without a margin that ends in a colon is a heading; lines with a
/// margin are shown as they are.
pub const REFERENCE: &str = "\
Exit status:
  0  success
  1  failure
  2  wrong usage, or a value out of range
  3  no such VM or profile, or it has expired
  4  the VM is in the wrong state, or the name is taken
  5  a limit is reached, or somebody else is at work on it
  6  this host or its backend cannot do it

exec, run and shell return the exit code of their command, and otherwise:

  124    the command ran out of time
  125    mayfly itself failed
  126    the command cannot be executed
  127    the command was not found
  128+N  the command was killed by signal N

Environment:
  MAYFLY_CONFIG           one more file of settings; it wins
  MAYFLY_STATE_DIR        --state-dir
  MAYFLY_BACKEND          --backend
  MAYFLY_PROFILE          --profile of create and run
  MAYFLY_VCPUS            --vcpus of create and run
  MAYFLY_MEM              --mem of create and run
  MAYFLY_TTL              --ttl of create and run
  MAYFLY_REQUIRE          --require of create and run
  MAYFLY_KEEP             --keep of create, run and exec, if it is yes
  MAYFLY_NO_JAILER        --no-jailer of create and run, if it is yes
  MAYFLY_COLD             --cold of start and run, if it is yes
  MAYFLY_GRACE            --grace of stop
  MAYFLY_COLOR            --color
  MAYFLY_ARTIFACTS_DIR    where images and templates are
  MAYFLY_RUNTIME_DIR      where sockets are; must be a short path
  MAYFLY_PROFILES         one more file of profiles; it wins
  MAYFLY_MAX_ACTIVE_VMS   how many VMs there may be
  MAYFLY_ACCEL            kvm or tcg: what new VMs must run on
  MAYFLY_QEMU_BIN         the program to use as qemu-system-x86_64
  MAYFLY_FIRECRACKER_BIN  the program to use as firecracker
  MAYFLY_JAILER_BIN       the program to use as firecracker's jailer
  MAYFLY_DEBIAN_MIRROR    where images' packages come from

A flag wins over its variable, and that over a file of settings; 1, true and on are yes, too. What can be
turned on there a flag turns off, as in --keep=no. --color wins over NO_COLOR, CLICOLOR and CLICOLOR_FORCE.
Commands in a VM see its id as MAYFLY_VM, and the directory of their secrets as MAYFLY_SECRETS. Building an
image passes http_proxy, https_proxy, ftp_proxy, all_proxy and no_proxy on.

Files:
  /etc/mayfly/config.toml         defaults of this host, described in mayfly-config(5)
  ~/.config/mayfly/config.toml    your defaults ($XDG_CONFIG_HOME)
  /etc/mayfly/profiles.toml       profiles of this host
  ~/.config/mayfly/profiles.toml  your profiles ($XDG_CONFIG_HOME)
  ~/.local/state/mayfly           registry, locks and VMs' disks ($XDG_STATE_HOME)
  ~/.local/share/mayfly           images and templates ($XDG_DATA_HOME)
  $XDG_RUNTIME_DIR/mayfly         sockets

Root's are /var/lib/mayfly, /var/lib/mayfly/artifacts and /run/mayfly.";
