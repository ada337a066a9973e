//! Settings, as `config` prints them.

use std::path::PathBuf;

use clap::builder::{BoolishValueParser, TypedValueParser};
use serde::Serialize;
use serde_json::{Number, Value};

use crate::model::{MemMib, TimeSpan};
use crate::settings::{ConfigKey, KeyForm, ValueOrigin};

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    Set(ValueOrigin),
    /// The profile of this name.
    Profile(String),
    /// The limits in the profiles' files.
    Limits,
}

impl SettingOrigin {
    /// For people.
    pub fn describe(&self, key: &ConfigKey) -> String {
        match self {
            SettingOrigin::Set(ValueOrigin::BuiltIn) => "built-in".into(),
            SettingOrigin::Set(ValueOrigin::Flag) => format!("--{}", key.name.replace('_', "-")),
            SettingOrigin::Set(ValueOrigin::Variable(name)) => name.clone(),
            SettingOrigin::Set(ValueOrigin::File { path, line }) => {
                format!("{}:{line}", path.display())
            }
            SettingOrigin::Profile(name) => format!("profile {name}"),
            SettingOrigin::Limits => "limits of profiles".into(),
        }
    }
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SettingView {
    key: &'static str,
    /// A boolean, a number or a string, as the key requires; `null` if nothing sets it. A value that mayfly refuses
    /// is a string.
    value: Value,
    /// The unit of a number: `seconds` or `MiB`.
    unit: Option<&'static str>,
    /// `flag`, `variable`, `file`, `profile` (the default profile), `profiles` (their limits) or `built_in`.
    origin: &'static str,
    /// The variable that sets it.
    variable: Option<String>,
    /// The file that sets it.
    file: Option<PathBuf>,
    /// The line of this file.
    line: Option<usize>,
}

impl SettingView {
    /// `value` is as a flag has it.
    pub fn new(key: &ConfigKey, value: Option<&str>, origin: &SettingOrigin) -> SettingView {
        let unit = match key.form {
            KeyForm::Span => Some("seconds"),
            KeyForm::Size => Some("MiB"),
            _ => None,
        };
        let value = value.map_or(Value::Null, |text| typed(key.form, text));
        let view = |origin| SettingView {
            key: key.name,
            value: value.clone(),
            unit,
            origin,
            variable: None,
            file: None,
            line: None,
        };
        match origin {
            SettingOrigin::Set(ValueOrigin::BuiltIn) => view("built_in"),
            SettingOrigin::Set(ValueOrigin::Flag) => view("flag"),
            SettingOrigin::Set(ValueOrigin::Variable(name)) => {
                SettingView { variable: Some(name.clone()), ..view("variable") }
            }
            SettingOrigin::Set(ValueOrigin::File { path, line }) => {
                SettingView { file: Some(path.clone()), line: Some(*line), ..view("file") }
            }
            SettingOrigin::Profile(_) => view("profile"),
            SettingOrigin::Limits => view("profiles"),
        }
    }
}

fn typed(form: KeyForm, text: &str) -> Value {
    let typed = match form {
        KeyForm::Switch => {
            let parsed =
                BoolishValueParser::new().parse_ref(&clap::Command::new(""), None, text.as_ref());
            parsed.ok().map(Value::Bool)
        }
        KeyForm::Count => text.parse::<u64>().ok().map(Value::from),
        KeyForm::Size => text.parse::<MemMib>().ok().map(|size| size.0.into()),
        KeyForm::Span => {
            text.parse::<TimeSpan>().ok().and_then(|TimeSpan(span)| match span.subsec_nanos() {
                0 => Some(span.as_secs().into()),
                _ => Number::from_f64(span.as_secs_f64()).map(Value::Number),
            })
        }
        KeyForm::Choice(_) | KeyForm::Path | KeyForm::Program | KeyForm::Text => None,
    };
    typed.unwrap_or_else(|| text.into())
}

/// A path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PathView {
    pub path: PathBuf,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_have_the_type_of_their_key() {
        let value = |key: &str, text: &str| typed(ConfigKey::find(key).unwrap().form, text);
        assert_eq!(value("keep", "yes"), json!(true));
        assert_eq!(value("vcpus", "2"), json!(2));
        assert_eq!(value("mem", "2G"), json!(2048));
        assert_eq!(value("ttl", "1m30s"), json!(90));
        assert_eq!(value("grace", "500ms"), json!(0.5));
        assert_eq!(value("backend", "qemu"), json!("qemu"));
        assert_eq!(value("mem", "much"), json!("much"));
    }
}
