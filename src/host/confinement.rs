//! Confining a process that reads data from strangers, such as an archive or a file system, so that a fault in it is of
//! little use: it reaches the files that it needs, no other process and no network.
//!
//! An unpacker confines itself. A program of others is started by mayfly, executed again, which confines itself and then
//! becomes the program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use serde::{Deserialize, Serialize};

use super::seccomp::SyscallFilter;
use super::tool::ToolRun;

/// The hidden argument that confines the program after it.
const ARGUMENT: &str = "__confined";

/// Whether this program is mayfly, which serves [`ARGUMENT`]. Others that use the library, such as tests, are not.
static IS_SERVED: AtomicBool = AtomicBool::new(false);

/// What a process that creates files of all owners needs of root's capabilities.
const NEEDED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);

/// What programs and the dynamic loader read, where it exists.
const SYSTEM: [&str; 11] = [
    "/bin",
    "/dev/null",
    "/etc/ld.so.cache",
    "/etc/mke2fs.conf",
    "/gnu/store",
    "/lib",
    "/lib64",
    "/nix/store",
    "/proc",
    "/sbin",
    "/usr",
];

/// The files that a confined process may use: directories with everything beneath them, and single files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FileReach {
    pub readable: Vec<PathBuf>,
    /// And readable.
    pub writable: Vec<PathBuf>,
    /// Programs and their libraries.
    pub executable: Vec<PathBuf>,
}

impl FileReach {
    pub fn new(readable: &[&Path], writable: &[&Path]) -> FileReach {
        let owned = |paths: &[&Path]| paths.iter().map(|&path| path.to_owned()).collect();
        FileReach { readable: owned(readable), writable: owned(writable), executable: Vec::new() }
    }

    /// Confines this process, which has one thread, and every program that it executes. What the kernel does not
    /// have, such as Landlock before Linux 5.19, is left out.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn confine(&self) -> Result<()> {
        set_no_new_privs(true).context("cannot set no_new_privs")?;
        drop_capabilities(NEEDED).context("cannot give up capabilities")?;
        self.restrict(false).context("cannot restrict access to files")?;
        SyscallFilter::Parser.apply()
    }

    fn restrict(&self, with_network: bool) -> Result<()> {
        let all = AccessFs::from_all(ABI::V5);
        let Ok(rules) = file_rules() else { return Ok(()) };
        let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
        let nodes = AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::MakeSock;
        let write = all & !(AccessFs::Execute | AccessFs::IoctlDev | nodes);
        let mut rules = rules.set_compatibility(CompatLevel::BestEffort).handle_access(all)?;
        if !with_network {
            rules = rules.handle_access(AccessNet::from_all(ABI::V4))?;
        }
        let status = rules
            .scope(Scope::from_all(ABI::V6))?
            .create()?
            .add_rules(path_beneath_rules(&self.readable, read))?
            .add_rules(path_beneath_rules(&self.writable, write))?
            .add_rules(path_beneath_rules(&self.executable, read | AccessFs::Execute))?
            .restrict_self();
        status.map(drop).map_err(Into::into)
    }
}

/// Confines this process, which has one thread and has opened all files that it needs, to making connections: it opens
/// no file, executes nothing and reaches no other process. A system call that it has no use for kills it.
///
/// # Errors
/// The kernel refuses.
pub fn confine_to_sockets() -> Result<()> {
    set_no_new_privs(true).context("cannot set no_new_privs")?;
    // Other processes of its user cannot read its memory.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot forbid dumps")?;
    drop_capabilities(CapabilitySet::empty()).context("cannot give up capabilities")?;
    FileReach::default().restrict(true).context("cannot restrict access to files")?;
    SyscallFilter::Network.apply()
}

/// Limits the open files of this process, and returns the limit, which may have been lower.
///
/// # Errors
/// The kernel refuses.
pub fn limit_open_files(most: u64) -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read a limit")?;
    let most = most.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot limit open files")?;
    Ok(most)
}

/// The start of a set of rules for files, which the kernel must support.
fn file_rules() -> Result<Ruleset, RulesetError> {
    // Without the right to link across directories, which Linux 5.19 brought, Landlock forbids that.
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V2))
}

/// Whether the kernel can keep a confined process from other files.
pub fn can_restrict_files() -> bool {
    file_rules().is_ok()
}

/// Keeps only the capabilities in `needed`, also for programs that root executes.
fn drop_capabilities(needed: CapabilitySet) -> Result<()> {
    for capability in CapabilitySet::all().difference(needed).iter() {
        // The kernel may not know it, and root of a container may not remove it.
        let _ = remove_capability_from_bounding_set(capability);
    }
    let _ = clear_ambient_capability_set();
    let permitted = capabilities(None)?.permitted & needed;
    let inheritable = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable })?)
}

/// Adds to `run` the words that start the program at `path` confined. In a program that cannot do that, it is started
/// as it is.
///
/// # Errors
/// This program's file cannot be found.
pub fn confined(run: ToolRun, path: &Path, mut reach: FileReach) -> Result<ToolRun> {
    if !IS_SERVED.load(Ordering::Relaxed) {
        return Ok(run.arg(path));
    }
    reach.executable.extend(SYSTEM.map(PathBuf::from));
    reach.executable.extend(path.parent().map(Path::to_owned));
    // By its path, since /proc/self is another process in other namespaces.
    let ourselves = std::env::current_exe().context("cannot find this program's file")?;
    Ok(run.arg(ourselves).arg(ARGUMENT).arg(serde_json::to_string(&reach)?).arg(path))
}

/// Becomes the program that `args` asks for, confined; returns if they ask for none.
///
/// # Errors
/// The process cannot be confined, or the program cannot be executed.
#[expect(clippy::disallowed_methods, reason = "replaces this process")]
pub fn serve(args: &[OsString]) -> Result<()> {
    IS_SERVED.store(true, Ordering::Relaxed);
    let [_, argument, reach, program, words @ ..] = args else { return Ok(()) };
    if argument != ARGUMENT {
        return Ok(());
    }
    let reach = reach.to_str().context("the files to confine it to are no text")?;
    serde_json::from_str::<FileReach>(reach)?.confine()?;
    let error = Command::new(program).args(words).exec();
    bail!("cannot execute {}: {error}", Path::new(program).display())
}
