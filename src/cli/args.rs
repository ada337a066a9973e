//! The definition of the command line.

use clap::Parser;

use super::manual;
use crate::commands::CliCommand;
use crate::output::PrintStyle;
use crate::settings::SettingOverrides;

/// Run commands in throwaway virtual machines.
///
/// Each VM has its own kernel, boots a Debian image built on this host, and is deleted after its command.
/// There is no daemon, and neither root nor KVM is needed. Without KVM the machine is emulated, which is
/// slower and not a security boundary. 'mayfly doctor' shows what this host can do.
#[derive(Debug, Parser)]
#[command(name = "mayfly", version, max_term_width = 100)]
#[command(after_help = manual::EXAMPLES)]
#[command(after_long_help = format!("{}\n\n{}", manual::EXAMPLES, manual::REFERENCE))]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub(super) settings: SettingOverrides,
    #[command(flatten)]
    pub(super) style: PrintStyle,
    #[command(subcommand)]
    pub(super) command: CliCommand,
}
