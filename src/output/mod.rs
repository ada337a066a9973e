//! Writing to standard output and standard error, which only this module does.
//!
//! Data goes to stdout, everything else to stderr. Text that a guest or a file could have chosen is escaped
//! ([`escape()`]). Only the output of a command in a guest is passed on raw, by other modules.

mod bad_value;
mod build_progress;
mod color;
mod copy_progress;
mod disk_use;
mod docker_flags;
mod docker_verbs;
mod error_report;
mod escape;
mod exec_answer;
mod foreign_text;
mod image_view;
mod inspection;
#[cfg(test)]
mod json_page;
mod layout;
mod lines;
mod network_log;
mod network_view;
mod printer;
mod removal_view;
mod screen;
mod setting_view;
mod shell_word;
mod standard;
mod table;
mod typed_flags;
mod usage_hint;
mod usage_mistake;
mod view;

pub use build_progress::BuildProgress;
pub use color::ColorMode;
pub use copy_progress::CopyProgress;
pub use disk_use::{DiskUseView, disk_use_text};
pub use docker_flags::about_mount;
pub use error_report::{ErrorReport, MAYFLY_FAILED};
pub use escape::{escape, escape_lines};
pub use exec_answer::ExecAnswer;
pub use foreign_text::ForeignText;
pub use image_view::{ImageView, ProfileView, TemplateView};
pub use inspection::{InspectionView, inspection_text};
pub use lines::{OutputDeadline, PrefixedLines, SharedStream, WritePatience};
pub use network_log::{NetworkEntryView, network_log_line};
pub use network_view::{PortView, host_address, port_line};
pub use printer::{PrintStyle, Printer};
pub use removal_view::{PruneView, ReapView, RemovalView};
pub use screen::TerminalScreen;
pub use setting_view::{PathView, SettingOrigin, SettingView};
pub use shell_word::shell_word;
pub use table::{
    checks_table, images_table, pool_table, profiles_table, settings_table, status_rows,
    templates_table,
};
pub use typed_flags::remember_state_dir;
pub use usage_mistake::UsageMistake;
pub use view::{CopyView, LogView, VmView, WaitView};
