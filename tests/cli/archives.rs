//! Archives of images: valid and damaged ones.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// A layer's tar archive with files of these names and contents.
pub fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, content) in files {
        append(&mut tar, name, EntryType::Regular, content.as_bytes());
    }
    tar.into_inner().unwrap()
}

fn append(tar: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    // tar's own methods would refuse names that lead out of the archive.
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

pub fn digest(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// An image with these layers.
pub struct Image {
    pub layers: Vec<Vec<u8>>,
    pub architecture: &'static str,
    /// The `config` part of its configuration.
    pub execution: Value,
}

impl Image {
    pub fn of(layers: &[Vec<u8>]) -> Image {
        Image { layers: layers.to_vec(), architecture: "amd64", execution: json!({}) }
    }

    fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        json!({
            "architecture": self.architecture, "os": "linux", "config": self.execution,
            "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": [],
        })
        .to_string()
        .into_bytes()
    }

    /// The files of an OCI layout; the index is the last.
    fn blobs(&self, blobs: &mut Vec<Vec<u8>>) -> Value {
        let mut pointer = |kind: &str, bytes: Vec<u8>| {
            let pointer = json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": digest(&bytes), "size": bytes.len(),
            });
            blobs.push(bytes);
            pointer
        };
        let layers: Vec<Value> =
            self.layers.iter().map(|layer| pointer("layer.v1.tar", layer.clone())).collect();
        let config = pointer("config.v1+json", self.configuration());
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let mut pointer = pointer("manifest.v1+json", manifest.to_string().into_bytes());
        pointer["platform"] = json!({ "os": "linux", "architecture": self.architecture });
        pointer
    }
}

/// An OCI archive of named images.
pub fn oci(images: &[(&str, &Image)]) -> Vec<u8> {
    oci_with(images, |_| {})
}

/// An OCI archive in which a blob was changed after its digest was calculated.
pub fn oci_with(images: &[(&str, &Image)], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut blobs = Vec::new();
    let mut pointers = Vec::new();
    for (name, image) in images {
        let mut pointer = image.blobs(&mut blobs);
        pointer["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        pointers.push(pointer);
    }
    let mut tar = Builder::new(Vec::new());
    for mut blob in blobs {
        let name = format!("blobs/{}", digest(&blob).replace(':', "/"));
        change(&mut blob);
        append(&mut tar, &name, EntryType::Regular, &blob);
    }
    let index = json!({ "schemaVersion": 2, "manifests": pointers }).to_string();
    append(&mut tar, "index.json", EntryType::Regular, index.as_bytes());
    append(&mut tar, "oci-layout", EntryType::Regular, br#"{"imageLayoutVersion":"1.0.0"}"#);
    tar.into_inner().unwrap()
}

/// An archive as `docker save` writes it.
pub fn docker(name: &str, image: &Image) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let configuration = image.configuration();
    let named = |bytes: &[u8]| digest(bytes).replace("sha256:", "");
    let mut layers = Vec::new();
    for layer in &image.layers {
        let name = format!("{}/layer.tar", named(layer));
        append(&mut tar, &name, EntryType::Regular, layer);
        layers.push(name);
    }
    let config = format!("{}.json", named(&configuration));
    append(&mut tar, &config, EntryType::Regular, &configuration);
    let manifest = json!([{ "Config": config, "RepoTags": [name], "Layers": layers }]).to_string();
    append(&mut tar, "manifest.json", EntryType::Regular, manifest.as_bytes());
    tar.into_inner().unwrap()
}

/// The contents of a file of an image's root file system, empty if it does not exist.
#[track_caller]
pub fn content(image: &Path, name: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let output = std::process::Command::new("debugfs")
        .env("PATH", format!("{}:/usr/sbin:/sbin", path.to_string_lossy()))
        .arg("-R")
        .arg(format!("cat {name}"))
        .arg(image.join("rootfs.ext4"))
        .output()
        .expect("debugfs is of e2fsprogs, which images are made with");
    String::from_utf8(output.stdout).unwrap()
}
