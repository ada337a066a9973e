//! Damaged descriptions and caches: a right result or a clear error, and an end in either case.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::fixture::{StoreFixture, image_name, refusal};
use crate::image::digest_cache::VERIFIED;
use crate::image::info::{INFO, INITRD, KERNEL};

/// Longer than any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `work` in a thread, and fails if that does not end.
fn bounded<T: Send>(what: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let (done, end) = mpsc::channel();
        scope.spawn(move || done.send(work()));
        match end.recv_timeout(PATIENCE) {
            Ok(result) => result,
            Err(_) => {
                // The thread would be waited for.
                eprintln!("{what} does not end");
                std::process::abort();
            }
        }
    })
}

/// Every text with one character changed so that it often still parses, as digits do.
fn damaged(text: &str) -> impl Iterator<Item = (usize, String)> {
    let is_blank = |at: &usize| text.as_bytes()[*at].is_ascii_whitespace();
    (0..text.len()).filter(move |at| !is_blank(at)).map(move |at| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = match bytes[at] {
            b'9' => b'0',
            b'z' | b'f' => b'a',
            byte => byte + 1,
        };
        (at, String::from_utf8(bytes).unwrap())
    })
}

fn path(fixture: &StoreFixture, name: &str) -> PathBuf {
    fixture.root().join(image_name().as_str()).join(name)
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// The cache of digests is only a reason not to read a file.
#[test]
fn a_wrong_cache_is_a_reason_to_read_the_files() {
    let fixture = StoreFixture::new();
    let id = fixture.ensure().unwrap().id();
    fixture.ensure().unwrap().verify().unwrap();
    let cache = path(&fixture, VERIFIED);
    let right = fs::read_to_string(&cache).unwrap();
    assert!(right.contains("\"agent\"") && right.contains(KERNEL), "{right}");
    for (at, wrong) in damaged(&right) {
        write(&cache, &wrong);
        let image = bounded(&wrong, || fixture.ensure()).unwrap_or_else(|error| {
            panic!("character {at} of {wrong}: {error:#}");
        });
        assert_eq!(image.id(), id);
        image.verify().unwrap_or_else(|error| panic!("character {at} of {wrong}: {error:#}"));
    }
    assert_eq!(fixture.builds(), 1);
    // The other direction: a file that is not the right one stays refused, whatever the cache is.
    write(&cache, &right);
    write(&path(&fixture, KERNEL), "another kernel");
    for (_, wrong) in damaged(&right).step_by(7) {
        write(&cache, &wrong);
        let image = fixture.ensure().unwrap();
        assert!(refusal(&image.verify().unwrap_err()).message.contains("is damaged"));
    }
}

#[test]
fn a_wrong_description_is_refused_or_made_right() {
    let fixture = StoreFixture::new();
    let files = |name| fs::read(path(&fixture, name)).unwrap();
    fixture.ensure().unwrap();
    let mut at = 0;
    loop {
        let right = fs::read_to_string(path(&fixture, INFO)).unwrap();
        let Some((here, wrong)) = damaged(&right).find(|(here, _)| *here >= at) else { break };
        at = here + 1;
        write(&path(&fixture, INFO), &wrong);
        match bounded(&wrong, || fixture.ensure().and_then(|image| image.verify().map(|_| image))) {
            Ok(image) => {
                assert_eq!(image.info().profile, image_name(), "character {here} of {wrong}");
                drop(image);
                assert!(files(INITRD).ends_with(b"\0"), "character {here} of {wrong}");
                fixture.build("bookworm").unwrap();
            }
            Err(error) => {
                assert!(refusal(&error).hint.is_some(), "character {here} of {wrong}: {error:#}");
                write(&path(&fixture, INFO), &right);
            }
        }
        assert_eq!(fixture.names(), ["p"], "character {here} of {wrong}");
    }
}
