//! What profiles say about the network: lists of rules, as flags have them.

use std::str::FromStr;

use crate::model::{AllowRule, NetworkMode, NetworkSettings, PublishedPort, Refusal};

/// The network of a complete profile.
///
/// # Errors
/// What is wrong with a rule.
pub(super) fn settings(
    mode: Option<NetworkMode>,
    allow: Option<Vec<String>>,
    publish: Option<Vec<String>>,
) -> Result<NetworkSettings, String> {
    Ok(NetworkSettings {
        mode: mode.unwrap_or_default(),
        allow: read_rules(&allow.unwrap_or_default())?,
        publish: read_rules(&publish.unwrap_or_default())?,
    })
}

/// The rules in a list.
///
/// # Errors
/// What is wrong with the first that is wrong.
fn read_rules<T>(texts: &[String]) -> Result<Vec<T>, String>
where
    T: FromStr<Err = Refusal> + PartialEq,
{
    let mut rules = Vec::new();
    for text in texts {
        let rule = text.parse().map_err(|refusal: Refusal| refusal.message)?;
        // A profile and its base may both have it.
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// Checks the lists of a profile. An error has the key whose rule is wrong.
pub(super) fn check(
    allow: Option<&[String]>,
    publish: Option<&[String]>,
) -> Result<(), (&'static str, Refusal)> {
    let wrong = |key| move |refusal| (key, refusal);
    let parse = |rule: &String| rule.parse::<AllowRule>().map(drop);
    allow.unwrap_or_default().iter().try_for_each(parse).map_err(wrong("allow"))?;
    let parse = |ports: &String| ports.parse::<PublishedPort>().map(drop);
    publish.unwrap_or_default().iter().try_for_each(parse).map_err(wrong("publish"))
}

/// The list of a profile together with that of its base.
pub(super) fn both(base: Option<&Vec<String>>, own: Option<&Vec<String>>) -> Option<Vec<String>> {
    let all: Vec<String> = base.into_iter().chain(own).flatten().cloned().collect();
    (base.is_some() || own.is_some()).then_some(all)
}
