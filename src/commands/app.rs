//! What every verb is given.

use anyhow::Result;

use crate::lifecycle::VmManager;
use crate::output::{PrintStyle, Printer};
use crate::settings::Settings;

/// The settings that apply to this command line, and how to print.
#[derive(Debug)]
pub struct AppContext {
    pub settings: Settings,
    pub printer: Printer,
}

impl AppContext {
    /// As [`VmManager::open`].
    pub fn open(&self) -> Result<VmManager> {
        let say = |line: &str| Printer { style: PrintStyle::default() }.verdict(line);
        Ok(VmManager { say, ..VmManager::open(self.settings.clone())? })
    }

    /// As [`VmManager::open_to_read`].
    pub fn open_to_read(&self) -> Result<VmManager> {
        VmManager::open_to_read(self.settings.clone())
    }
}
