//! What every verb is given.

use anyhow::Result;

use crate::lifecycle::{DenialNotes, VmManager};
use crate::output::{PrintStyle, Printer};
use crate::settings::Settings;

/// The settings that apply to this command line, and how to print.
#[derive(Debug, Clone)]
pub struct AppContext {
    pub settings: Settings,
    pub printer: Printer,
    /// Whether the guest's command was typed without `--` before it.
    pub is_command_bare: bool,
}

impl AppContext {
    /// As [`VmManager::open`].
    pub fn open(&self) -> Result<VmManager> {
        let say = |line: &str| Printer { style: PrintStyle::default() }.verdict(line);
        Ok(VmManager { say, ..VmManager::open(self.settings.clone())? })
    }

    /// How to tell what a VM is denied while a command runs in it.
    pub fn denial_notes(&self) -> DenialNotes {
        let is_silent = self.printer.style.json || self.printer.style.quiet;
        if is_silent { DenialNotes::Silent } else { DenialNotes::Plain }
    }

    /// Whether there is a profile of this name.
    pub fn has_profile(&self, name: &str) -> bool {
        self.settings.profiles().is_ok_and(|profiles| profiles.profiles.contains_key(name))
    }

    /// As [`VmManager::open_to_read`].
    pub fn open_to_read(&self) -> Result<VmManager> {
        VmManager::open_to_read(self.settings.clone())
    }
}
