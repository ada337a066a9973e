//! JSON files in the state and image directories. A killed command or a damaged disk may leave anything in them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::allocation::bounded;
use super::check_error;
use crate::host::seal::seal;
use crate::image::ImageInfo;
use crate::image::digest_cache::DigestCache;
use crate::model::{VmManifest, VmRecord};
use crate::registry::RegistryContents;
use crate::template::TemplateInfo;

/// `registry.json`, as it is and sealed: without a seal, an older schema is read.
pub fn registry(input: &[u8]) {
    for bytes in [input.to_vec(), seal(input.to_vec())] {
        match bounded(memory(&bytes), || RegistryContents::parse(&bytes)) {
            Ok(contents) => {
                assert!(contents.vms.iter().all(|(id, record)| id == record.id()));
                let written = contents.to_bytes().expect("what was read can be written");
                let again = RegistryContents::parse(&written).expect("it was just written");
                check_same(&again, &contents);
            }
            Err(refusal) => check_error(refusal),
        }
    }
}

/// `manifest.json`, `image.json`, `template.json` and `verified.json`.
pub fn records(input: &[u8]) {
    bounded(memory(input), || {
        again::<VmManifest>(input);
        again::<VmRecord>(input);
        again::<ImageInfo>(input);
        let _ = serde_json::from_slice::<DigestCache>(input);
        if let Ok(text) = str::from_utf8(input) {
            match TemplateInfo::from_text(text) {
                Ok(info) => assert_eq!(info.to_text().expect("it is text").len(), text.len()),
                Err(error) => check_error(error),
            }
        }
    });
}

fn again<T: Serialize + DeserializeOwned>(input: &[u8]) {
    if let Ok(read) = serde_json::from_slice::<T>(input) {
        let written = serde_json::to_vec(&read).expect("what was read can be written");
        check_same(&serde_json::from_slice::<T>(&written).expect("it was just written"), &read);
    }
}

/// Compares two values, but for the last digit of a number of seconds: `serde_json` may read another one than it wrote.
fn check_same(again: &impl Serialize, before: &impl Serialize) {
    let value = |of: Result<Value, _>| of.expect("it can be written");
    let (again, before) = (value(serde_json::to_value(again)), value(serde_json::to_value(before)));
    assert!(is_same(&again, &before), "{again}\n{before}");
}

fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let same = |((key, one), (also, other))| key == also && is_same(one, other);
            one.len() == other.len() && one.iter().zip(other).all(same)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Number(one), Value::Number(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(a), Some(b)) if one.is_f64() => (a - b).abs() <= a.abs() * 1e-15,
            _ => one == other,
        },
        _ => one == other,
    }
}

/// A byte of JSON can become a node of a tree.
fn memory(input: &[u8]) -> usize {
    (4 << 20) + 400 * input.len()
}
