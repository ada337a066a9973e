//! The payloads of control frames, as JSON. Both ends refuse unknown fields: whether they understand each other
//! depends only on the version in `Hello` and `HelloAck`.

use serde::{Deserialize, Deserializer, Serialize};

use super::secret::NamedSecret;
use super::text::WireText;

/// What a guest must be told before its first command: sent once after every start, from a template too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// The VM's id; commands see it as `MAYFLY_VM`.
    pub vm_id: String,
    /// The host's wall clock in nanoseconds since 1970.
    pub unix_ns: u64,
    /// The guest's host name.
    pub hostname: String,
    /// At least 32 random bytes for the guest's random number generator, as base64.
    pub entropy: String,
    /// Milliseconds after which the agent ends the VM.
    pub ttl_ms: Option<u64>,
    /// Whether the guest must have a network.
    pub network: bool,
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    pub program: ExecProgram,
    /// Variables besides the guest's defaults; the last of a name wins.
    #[serde(default)]
    pub env: Vec<(WireText, WireText)>,
    /// The working directory; by default the user's home.
    #[serde(default)]
    pub cwd: Option<WireText>,
    /// `name`, `uid`, `name:group` or `uid:gid`; by default the agent's user.
    #[serde(default)]
    pub user: Option<String>,
    /// Milliseconds until the whole process tree is killed.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Whether `Stdin` frames follow; otherwise the input is empty.
    #[serde(default)]
    pub stdin: bool,
    /// A terminal for its three streams; if `None`, they are pipes.
    #[serde(default)]
    pub tty: Option<TerminalRequest>,
    /// Files with secrets. They are not in the JSON: see [`NamedSecret`].
    #[serde(skip)]
    pub secrets: Vec<NamedSecret>,
}

impl ExecRequest {
    /// Runs this, with everything else at its default.
    pub fn of(program: ExecProgram) -> ExecRequest {
        ExecRequest {
            program,
            env: Vec::new(),
            cwd: None,
            user: None,
            timeout_ms: None,
            stdin: false,
            tty: None,
            secrets: Vec::new(),
        }
    }
}

/// What to execute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecProgram {
    /// A program and its arguments. A program without a slash is looked up in `PATH`.
    Argv(Vec<WireText>),
    /// A command line for `bash -lc`.
    Shell(WireText),
    /// The user's login shell, or `/bin/sh` if that does not exist.
    Login,
    /// The agent's own program, which writes a tree of files to its standard output.
    Pack(PackRequest),
    /// The agent's own program, which reads a tree of files from its standard input.
    Unpack(UnpackRequest),
}

/// Which files to send. Their format is that of `archive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackRequest {
    /// A file or a directory. A relative path begins at the command's working directory.
    pub path: WireText,
    /// If the path is a symbolic link, send its target.
    pub follow: bool,
    /// Send the total size first.
    pub announce: bool,
}

/// Where to put files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnpackRequest {
    /// A relative path begins at the command's working directory.
    pub path: WireText,
    pub input: UnpackInput,
}

/// What an [`UnpackRequest`] reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UnpackInput {
    /// The output of a [`PackRequest`]. It is placed at the path by the rules of `docker cp`.
    Tree {
        /// The name of the source, if it has one.
        name: Option<WireText>,
        /// Only the contents of the directory.
        contents: bool,
        /// Create missing parent directories of the path.
        parents: bool,
    },
    /// A tar archive, to be unpacked in the directory at the path.
    Archive,
    /// Nothing: the files are in the file system on the VM's files disk, which becomes the directory at the path. Only
    /// root can ask for this, once in a VM, and only if nothing is there. Missing parent directories are created.
    Disk,
}

/// A signal for the command's process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// The number of Linux on x86-64, 1 to 64.
    pub number: u8,
}

/// A terminal for a command, like the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalRequest {
    pub size: WindowSize,
    /// The value of `TERM`, unless the guest has no terminal of that name or the request sets the variable.
    pub name: WireText,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
}

/// A request to shut the VM down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownRequest {
    /// Milliseconds between SIGTERM and SIGKILL for its processes.
    pub grace_ms: u64,
}

/// A new TTL for the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TtlRequest {
    /// Milliseconds after which the agent ends the VM. Replaces that of `SetupRequest`.
    pub ttl_ms: u64,
}

/// What the agent reports about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentInfo {
    /// The agent's `CARGO_PKG_VERSION`.
    pub version: String,
    /// The release of the kernel it runs on.
    pub kernel: String,
    /// Whether it is a guest's first process; otherwise it is a process of the host.
    pub init: bool,
}

/// The command has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecStarted {
    /// Its process id in the guest, which is its process group and session too.
    pub pid: u32,
}

/// More standard input may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdinCredit {
    pub bytes: u32,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEnd {
    /// It exited with this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

/// The command ended. All its output was sent before this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecExit {
    pub end: ProcessEnd,
    /// Whether it was killed at its timeout.
    pub timed_out: bool,
    /// Milliseconds from start to end of the process, by the agent's clock.
    pub duration_ms: u64,
    /// Whether the VM was being shut down when the command ended, so that this may be why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vm_ending: bool,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFailure {
    pub kind: FailureKind,
    /// One line for people. Further lines are dropped: they could look like another program's output.
    #[serde(deserialize_with = "one_line")]
    pub message: String,
}

fn one_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut text = String::deserialize(deserializer)?;
    text.truncate(text.lines().next().map_or(0, str::len));
    Ok(text)
}

/// The class of an [`AgentFailure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No such program.
    NotFound,
    /// The program exists but cannot be executed.
    NotExecutable,
    NoSuchUser,
    NoSuchDirectory,
    /// Another command is running, or no more can be started at the moment.
    Busy,
    /// The agent does not do this.
    Refused,
    /// The agent or its kernel failed.
    Internal,
}
