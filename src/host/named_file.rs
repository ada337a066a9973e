//! Errors about files that the user named, which have the same kind in every verb.

use std::io::{self, ErrorKind};

use anyhow::Error;

use crate::model::{Refusal, RefusalKind};

/// `NotFound` for a file that does not exist, `Usage` for one of the wrong kind; any other error as it is.
pub fn refusal(error: Error) -> Error {
    let io_kind = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        io.or_else(|| cause.downcast_ref::<rustix::io::Errno>().map(|errno| errno.kind()))
    };
    let kind = match error.chain().find_map(io_kind) {
        Some(ErrorKind::NotFound) => RefusalKind::NotFound,
        Some(ErrorKind::IsADirectory | ErrorKind::NotADirectory) => RefusalKind::Usage,
        _ => return error,
    };
    if Refusal::find(&error).is_some() {
        return error;
    }
    Refusal::new(kind, format!("{error:#}")).into()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_missing_file_and_one_of_the_wrong_kind_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let kind_of = |path: &std::path::Path| {
            let error = std::fs::read(path).context("cannot read it").unwrap_err();
            let error = refusal(error);
            assert!(error.to_string().starts_with("cannot read it: "), "{error}");
            Refusal::find(&error).unwrap().kind
        };
        assert_eq!(kind_of(&dir.path().join("none")), RefusalKind::NotFound);
        assert_eq!(kind_of(dir.path()), RefusalKind::Usage);
        let other = refusal(anyhow::anyhow!("something else"));
        assert!(Refusal::find(&other).is_none());
    }
}
