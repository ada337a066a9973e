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

    pub fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        json!({
            "architecture": self.architecture, "os": "linux", "config": self.execution,
            "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": [],
        })
        .to_string()
        .into_bytes()
    }

    /// The files of an OCI layout; the index is the last.
    pub fn blobs(&self, blobs: &mut Vec<Vec<u8>>) -> Value {
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

/// The files of an archive in the order in which they are packed.
pub type Members = Vec<(String, Vec<u8>)>;

/// A tar archive of files.
pub fn pack(members: &Members) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, content) in members {
        append(&mut tar, name, EntryType::Regular, content);
    }
    tar.into_inner().unwrap()
}

/// An OCI archive of named images.
pub fn oci(images: &[(&str, &Image)]) -> Vec<u8> {
    pack(&oci_members(images))
}

/// An OCI archive in which a blob was changed after its digest was calculated.
pub fn oci_with(images: &[(&str, &Image)], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut members = oci_members(images);
    for (name, content) in &mut members {
        if name.starts_with("blobs/") {
            change(content);
        }
    }
    pack(&members)
}

/// The files of an OCI layout; those that say so are the last.
pub fn oci_members(images: &[(&str, &Image)]) -> Members {
    let mut blobs = Vec::new();
    let mut pointers = Vec::new();
    for (name, image) in images {
        let mut pointer = image.blobs(&mut blobs);
        pointer["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        pointers.push(pointer);
    }
    layout(blobs, &pointers)
}

/// The files of an OCI layout with these blobs and this index.
pub fn layout(blobs: Vec<Vec<u8>>, pointers: &[Value]) -> Members {
    let index = json!({ "schemaVersion": 2, "manifests": pointers }).to_string();
    let blob = |blob: Vec<u8>| (format!("blobs/{}", digest(&blob).replace(':', "/")), blob);
    let mut members: Members = blobs.into_iter().map(blob).collect();
    members.push(("index.json".into(), index.into_bytes()));
    members.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    members
}

/// An archive as `docker save` writes it.
pub fn docker(name: &str, image: &Image) -> Vec<u8> {
    pack(&docker_members(name, image))
}

/// The files of an archive of `docker save`; the manifest is the last.
pub fn docker_members(name: &str, image: &Image) -> Members {
    let named = |bytes: &[u8]| digest(bytes).replace("sha256:", "");
    let layer = |layer: &Vec<u8>| (format!("{}/layer.tar", named(layer)), layer.clone());
    let mut members: Members = image.layers.iter().map(layer).collect();
    let layers: Vec<String> = members.iter().map(|(name, _)| name.clone()).collect();
    let configuration = image.configuration();
    let config = format!("{}.json", named(&configuration));
    let manifest = json!([{ "Config": config, "RepoTags": [name], "Layers": layers }]);
    members.push((config, configuration));
    members.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    members
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
