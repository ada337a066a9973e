//! What a check of the host found.

use serde::Serialize;

use super::refusal::Refusal;

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum CheckVerdict {
    Ok,
    /// Something is missing that mayfly can do without.
    Warning,
    Failed,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostCheck {
    pub name: &'static str,
    pub verdict: CheckVerdict,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl HostCheck {
    pub fn ok(name: &'static str, detail: impl Into<String>) -> HostCheck {
        HostCheck { name, verdict: CheckVerdict::Ok, detail: detail.into(), remedy: None }
    }

    pub fn lacks(
        name: &'static str,
        verdict: CheckVerdict,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> HostCheck {
        HostCheck { name, verdict, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// The check passed if `result` is `Ok`. Otherwise its verdict is `verdict`, and its remedy the hint of
    /// the error's refusal.
    pub fn of<E: Into<anyhow::Error>>(
        name: &'static str,
        verdict: CheckVerdict,
        result: Result<String, E>,
    ) -> HostCheck {
        match result {
            Ok(detail) => HostCheck::ok(name, detail),
            Err(error) => {
                let error = error.into();
                let remedy = Refusal::find(&error).and_then(|refusal| refusal.hint.clone());
                HostCheck { name, verdict, detail: format!("{error:#}"), remedy }
            }
        }
    }
}
