//! What every verb is given.

use crate::output::Printer;
use crate::settings::Settings;

/// The settings a command line resolved to, and how to print.
#[derive(Debug)]
pub struct AppContext {
    pub settings: Settings,
    pub printer: Printer,
}
