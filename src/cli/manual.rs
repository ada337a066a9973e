//! Help about the program as a whole, for `mayfly --help` and mayfly(1). Tests compare it with the code.

/// For `-h`: typical command lines.
pub const EXAMPLES: &str = "\
Examples:
  mayfly run uname -a                         run a command in a VM of its own
  mayfly run                                  a shell in a VM of its own
  mayfly run -p debian-build cc --version     in a VM with a compiler
  mayfly create --name box --keep             the same, step by step:
  mayfly start box
  mayfly cp notes.txt box:
  mayfly exec --keep box ls /
  mayfly rm box";

/// For `--help`: everything else. An unindented line that ends in a colon is a heading; indented lines are
/// shown as they are.
pub const REFERENCE: &str = "\
Exit status:
  0  success
  1  failure
  2  wrong usage, or a value out of range
  3  a VM, profile, image or file that was named does not exist, or the VM has expired
  4  the VM is in the wrong state, or the name is taken
  5  a limit was reached, or another command is using the VM
  6  this host or its backend cannot do it
  129  SIGHUP ended mayfly
  130  SIGINT ended mayfly, as Ctrl-C does
  143  SIGTERM ended mayfly

exec, run and shell return the exit code of their command, or:

  124    the command timed out, or its VM expired
  125    mayfly itself failed, or another command stopped the VM
  126    the command cannot be executed
  127    the command was not found
  128+N  the command was killed by signal N

Environment:
  MAYFLY_CONFIG           one more settings file, which overrides the others
  MAYFLY_STATE_DIR        --state-dir
  MAYFLY_BACKEND          --backend
  MAYFLY_PROFILE          --profile of create and run
  MAYFLY_VCPUS            --vcpus of create and run
  MAYFLY_MEM              --mem of create and run
  MAYFLY_DISK             --disk of create and run
  MAYFLY_TTL              --ttl of create and run
  MAYFLY_WAIT_SLOT        --wait-slot of create and run
  MAYFLY_REQUIRE          --require of create and run
  MAYFLY_NET              --net of create and run
  MAYFLY_KEEP             --keep of create, run and exec
  MAYFLY_NO_JAILER        --no-jailer of create and run
  MAYFLY_COLD             --cold of create, start and run
  MAYFLY_GRACE            --grace of stop
  MAYFLY_COLOR            --color
  MAYFLY_ARTIFACTS_DIR    directory of images and templates
  MAYFLY_RUNTIME_DIR      directory of sockets; its path must be short
  MAYFLY_PROFILES         one more profiles file, which overrides the others
  MAYFLY_MAX_ACTIVE_VMS   how many VMs may exist
  MAYFLY_POOL             how many VMs of a kind to keep waiting in the pool
  MAYFLY_ACCEL            kvm or tcg: the accelerator that new VMs must have
  MAYFLY_QEMU_BIN         the program to run as qemu-system-x86_64
  MAYFLY_FIRECRACKER_BIN  the program to run as firecracker
  MAYFLY_JAILER_BIN       the program to run as Firecracker's jailer
  MAYFLY_DEBIAN_MIRROR    where to download the packages of images from

In order of precedence: flags, variables, settings files. The values 1, true, yes and on turn a switch
such as MAYFLY_KEEP on; a flag such as --keep=no turns it off again. --color overrides NO_COLOR, CLICOLOR
and CLICOLOR_FORCE. Commands in a VM find its id in MAYFLY_VM, and the directory of their secrets in
MAYFLY_SECRETS. Image builds use http_proxy, https_proxy, ftp_proxy, all_proxy and no_proxy.

Files:
  /etc/mayfly/config.toml         defaults for this host; see mayfly-config(5)
  ~/.config/mayfly/config.toml    your defaults ($XDG_CONFIG_HOME)
  /etc/mayfly/profiles.toml       profiles for this host; see mayfly-profiles(5)
  ~/.config/mayfly/profiles.toml  your profiles ($XDG_CONFIG_HOME)
  ~/.local/state/mayfly           registry, locks and VMs' disks ($XDG_STATE_HOME)
  ~/.local/share/mayfly           images and templates ($XDG_DATA_HOME)
  $XDG_RUNTIME_DIR/mayfly         sockets

Root uses /var/lib/mayfly, /var/lib/mayfly/artifacts and /run/mayfly instead of the last three.";
