//! What a command line consists of.

use clap::Parser;

use super::manual;
use crate::commands::CliCommand;
use crate::output::PrintStyle;
use crate::settings::SettingOverrides;

/// Run commands in throwaway virtual machines.
///
/// Each VM has a kernel of its own, boots a Debian image that was built on this host, and is deleted
/// after its command. There is no daemon, and no need to be root or to have KVM; without KVM the
/// machine is emulated, which is slower and no security boundary. 'mayfly doctor' says what a host
/// can do.
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
