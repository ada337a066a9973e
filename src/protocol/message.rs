//! What control frames say. JSON, and strict on both ends: the version in the opening records says
//! whether two programs understand each other, not guesses about unknown fields.

use serde::{Deserialize, Deserializer, Serialize};

use super::{NamedSecret, WireText};

/// What a guest must know of the outside before it serves: sent once after every start, and before
/// the first command of a clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// The VM's id; commands see it as `MAYFLY_VM`.
    pub vm_id: String,
    /// The host's wall clock in nanoseconds since 1970.
    pub unix_ns: u64,
    /// The guest's name for itself.
    pub hostname: String,
    /// Random bytes for the guest's generator, at least 32, as base64.
    pub entropy: String,
    /// Milliseconds this VM may still live; past them the agent ends it by itself.
    pub ttl_ms: Option<u64>,
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    pub program: ExecProgram,
    /// Variables on top of the guest's own defaults; the last of a name wins.
    #[serde(default)]
    pub env: Vec<(WireText, WireText)>,
    /// Where it runs; by default in its user's home.
    #[serde(default)]
    pub cwd: Option<WireText>,
    /// `name`, `uid`, `name:group` or `uid:gid`; by default the agent's own.
    #[serde(default)]
    pub user: Option<String>,
    /// Milliseconds until the whole process tree is killed.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Whether `Stdin` frames follow; otherwise the command reads an empty input.
    #[serde(default)]
    pub stdin: bool,
    /// A terminal for its three streams; without one they are pipes.
    #[serde(default)]
    pub tty: Option<TerminalRequest>,
    /// What it is given in confidence, as files. They are no part of the JSON: see [`NamedSecret`].
    #[serde(skip)]
    pub secrets: Vec<NamedSecret>,
}

impl ExecRequest {
    /// A request to run this, with everything else at its default.
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
    /// A program and its arguments; looked up in `PATH` when it has no slash.
    Argv(Vec<WireText>),
    /// A command line for `bash -lc`.
    Shell(WireText),
    /// The user's login shell, or `/bin/sh` where that is not there.
    Login,
    /// The agent itself, which sends a tree of files to its standard output.
    Pack(PackRequest),
    /// The agent itself, which makes a tree of files from its standard input.
    Unpack(UnpackRequest),
}

/// Which files to send; the room `archive` says how they look on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackRequest {
    /// A file or a directory; a relative path begins where the command runs.
    pub path: WireText,
    /// If it is a link, send what it leads to.
    pub follow: bool,
    /// Say first how much it is.
    pub announce: bool,
}

/// Where to put files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnpackRequest {
    /// A relative path begins where the command runs.
    pub path: WireText,
    pub input: UnpackInput,
}

/// What an [`UnpackRequest`] reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UnpackInput {
    /// What a [`PackRequest`] would send. The path says where it goes by docker cp's rules.
    Tree {
        /// What it is called where it comes from, if that has a name.
        name: Option<WireText>,
        /// Of a directory, only what is in it.
        contents: bool,
        /// Make the directories above the path that are not there.
        parents: bool,
    },
    /// A tar archive, to be unpacked in the directory at the path.
    Archive,
}

/// A signal for the command's process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// Linux's number on x86-64, 1 to 64.
    pub number: u8,
}

/// A terminal for a command, like the one the person sits at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalRequest {
    pub size: WindowSize,
    /// What kind it is: `TERM`, unless the guest knows none of that name or the request has another.
    pub name: WireText,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
}

/// End the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownRequest {
    /// Milliseconds between asking processes to end and killing them.
    pub grace_ms: u64,
}

/// More time for the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TtlRequest {
    /// Milliseconds this VM may still live, in place of what `SetupRequest` said.
    pub ttl_ms: u64,
}

/// What the agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentInfo {
    /// The agent's own version, `CARGO_PKG_VERSION` of its build.
    pub version: String,
    /// The release of the kernel it runs on.
    pub kernel: String,
    /// Whether it is a guest's first process; otherwise a plain process of the host.
    pub init: bool,
}

/// The command runs.
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
    /// It returned this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

/// The command ended, and all its output precedes this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecExit {
    pub end: ProcessEnd,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
    /// Milliseconds from start to end of the process, by the agent's clock.
    pub duration_ms: u64,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFailure {
    pub kind: FailureKind,
    /// One line for people, whatever was sent: more could look like a line of somebody else.
    #[serde(deserialize_with = "one_line")]
    pub message: String,
}

fn one_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut text = String::deserialize(deserializer)?;
    text.truncate(text.lines().next().map_or(0, str::len));
    Ok(text)
}

/// The class of a [`AgentFailure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No such program.
    NotFound,
    /// It is there and cannot be executed.
    NotExecutable,
    NoSuchUser,
    NoSuchDirectory,
    /// Something else is running, or nothing more can be started now.
    Busy,
    /// The agent does not do that.
    Refused,
    /// The agent or its kernel failed.
    Internal,
}
