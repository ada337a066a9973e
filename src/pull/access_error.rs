//! What the user can do if a registry does not give what is asked for.

use anyhow::Error;

use crate::host::tool::{ToolFailure, ToolInterrupted};
use crate::model::{ImageReference, QuotedOutput, Refusal, RefusalKind};

/// The reasons that are told apart.
enum AccessProblem {
    Denied,
    Missing,
    RateLimit,
    Certificate,
    PlainHttp,
    Network,
    Policy,
    Full,
}

/// Parts of skopeo's messages. The first that matches counts.
const SIGNS: [(AccessProblem, &[&str]); 8] = [
    (AccessProblem::Full, &["no space left on device"]),
    (AccessProblem::Policy, &["policy.json"]),
    (AccessProblem::RateLimit, &["toomanyrequests", "too many requests"]),
    (AccessProblem::PlainHttp, &["server gave http response to https client"]),
    (AccessProblem::Certificate, &["x509:", "tls:", "certificate"]),
    (
        AccessProblem::Missing,
        &["manifest unknown", "name unknown", "repository name not known", "404 (not found)"],
    ),
    (
        AccessProblem::Denied,
        &[
            "unauthorized",
            "authentication required",
            "access to the resource is denied",
            "denied:",
            "forbidden",
            "invalid username/password",
            "error getting credentials",
        ],
    ),
    (
        AccessProblem::Network,
        &[
            "no such host",
            "connection refused",
            "connection reset",
            "network is unreachable",
            "no route to host",
            "i/o timeout",
            "deadline exceeded",
            "server misbehaving",
            "proxyconnect",
            "unexpected eof",
        ],
    ),
];

/// Turns a failure of skopeo into a refusal with its last line and a remedy.
pub fn explain(error: Error, reference: &ImageReference) -> Error {
    if error.is::<ToolInterrupted>() {
        return error;
    }
    let Some(failed) = error.downcast_ref::<ToolFailure>() else {
        return error.context(format!("cannot pull {reference}"));
    };
    let last = failed.tail.last().cloned().unwrap_or_default();
    let lower = last.to_lowercase();
    let problem = SIGNS
        .iter()
        .find(|(_, signs)| signs.iter().any(|sign| lower.contains(sign)))
        .map(|(problem, _)| problem);
    let host = reference.registry();
    let log_in = format!("'skopeo login {host}', 'podman login {host}' or 'docker login {host}'");
    let certs = format!("~/.config/containers/certs.d/{host}/ca.crt");
    let (kind, why, hint) = match problem {
        Some(AccessProblem::Denied) => (
            RefusalKind::Host,
            "the registry denies access".to_owned(),
            Some(format!("check the name, or log in: {log_in}")),
        ),
        Some(AccessProblem::Missing) => (
            RefusalKind::NotFound,
            "the registry has no such image".to_owned(),
            Some(format!("check name and tag; for a private image, log in: {log_in}")),
        ),
        Some(AccessProblem::RateLimit) => (
            RefusalKind::Host,
            "the registry limits the number of downloads".to_owned(),
            Some(format!("try again later, or log in: {log_in}")),
        ),
        Some(AccessProblem::Certificate) => (
            RefusalKind::Host,
            format!("the certificate of {host} is not trusted"),
            Some(format!("if its authority is your own, put its certificate into {certs}")),
        ),
        Some(AccessProblem::PlainHttp) => (
            RefusalKind::Host,
            format!("{host} does not speak HTTPS"),
            Some("if you trust the network, set 'insecure = true' for it in ~/.config/containers/registries.conf".to_owned()),
        ),
        Some(AccessProblem::Network) => (
            RefusalKind::Host,
            format!("{host} cannot be reached"),
            Some("check the network, the registry's name, and https_proxy".to_owned()),
        ),
        Some(AccessProblem::Policy) => (
            RefusalKind::Host,
            "skopeo has no policy for signatures".to_owned(),
            Some("install it: apt install golang-github-containers-common".to_owned()),
        ),
        Some(AccessProblem::Full) => (
            RefusalKind::Host,
            "the disk is full".to_owned(),
            Some("free some space, or keep images elsewhere: MAYFLY_ARTIFACTS_DIR".to_owned()),
        ),
        None => (RefusalKind::Host, failed.to_string(), None),
    };
    let quoted = vec![QuotedOutput { of: failed.program.clone(), lines: vec![last] }];
    let message = format!("cannot pull {reference}: {why}");
    Refusal { hint, quoted, ..Refusal::new(kind, message) }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(line: &str) -> Refusal {
        let failed = ToolFailure {
            program: "skopeo".into(),
            status: "exit status: 1".into(),
            tail: vec!["retrying".into(), line.into()],
        };
        let error = explain(failed.into(), &"r.example:5000/a".parse().unwrap());
        Refusal::find(&error).unwrap().clone()
    }

    #[test]
    fn messages_of_skopeo_have_remedies() {
        for (line, kind, why, hint) in [
            (
                "reading manifest v1 in a: unauthorized: authentication required",
                RefusalKind::Host,
                "denies",
                "skopeo login r.example:5000",
            ),
            (
                "requested access to the resource is denied",
                RefusalKind::Host,
                "denies",
                "docker login",
            ),
            (
                "reading manifest no in a: manifest unknown: manifest unknown",
                RefusalKind::NotFound,
                "no such image",
                "check name and tag",
            ),
            (
                "x509: certificate signed by unknown authority",
                RefusalKind::Host,
                "not trusted",
                "certs.d/r.example:5000/ca.crt",
            ),
            (
                "http: server gave HTTP response to HTTPS client",
                RefusalKind::Host,
                "HTTPS",
                "insecure = true",
            ),
            (
                "dial tcp: lookup r.example: no such host",
                RefusalKind::Host,
                "cannot be reached",
                "network",
            ),
            (
                "open /etc/containers/policy.json: no such file",
                RefusalKind::Host,
                "policy",
                "apt install",
            ),
            (
                "write /x: no space left on device",
                RefusalKind::Host,
                "disk is full",
                "MAYFLY_ARTIFACTS_DIR",
            ),
        ] {
            let refusal = explained(line);
            assert_eq!((refusal.kind, &*refusal.quoted[0].lines[0]), (kind, line));
            assert!(refusal.message.contains(why), "{refusal}");
            assert!(refusal.hint.unwrap().contains(hint), "{line}");
        }
        assert_eq!(explained("something else").hint, None);
        let reference = "a".parse().unwrap();
        assert!(explain(ToolInterrupted.into(), &reference).is::<ToolInterrupted>());
    }
}
