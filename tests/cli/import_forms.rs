//! What kind of archive a source is: its content decides, whatever order and names its files have.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::read::GzEncoder;
use serde_json::{Value, json};

use super::archives::{
    Image, Members, content, digest, docker_members, layer, layout, oci_members, pack,
};
use crate::support::environment::Environment;

fn environment() -> Environment {
    let mut env = Environment::mock();
    env.keep_templates_apart();
    env
}

fn small() -> Image {
    Image::of(&[layer(&[("etc/kept", "base"), ("etc/gone", "x")]), layer(&[("etc/.wh.gone", "")])])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut packed).unwrap();
    packed
}

/// Puts files before all others.
fn before(files: &[&str], mut members: Members) -> Members {
    let mut all: Members = files.iter().map(|name| (name.to_string(), b"x".to_vec())).collect();
    all.append(&mut members);
    all
}

/// As crane, kaniko and ko write it.
fn crane() -> Members {
    let mut layers: Members = Vec::new();
    for layer in &small().layers {
        let packed = gzip(layer);
        layers.push((format!("{}.tar.gz", digest(&packed).replace("sha256:", "")), packed));
    }
    let names: Vec<&String> = layers.iter().map(|(name, _)| name).collect();
    let configuration = small().configuration();
    let config = digest(&configuration);
    let manifest = json!([{ "Config": config, "RepoTags": ["a.example/x:1"], "Layers": names }]);
    let mut members = vec![(config, configuration)];
    members.append(&mut layers);
    members.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    members
}

fn reversed(mut members: Members) -> Members {
    members.reverse();
    members
}

fn below_dot(members: Members) -> Members {
    members.into_iter().map(|(name, content)| (format!("./{name}"), content)).collect()
}

/// Imports an archive as "x", and returns its form and what the image has in `name`.
#[track_caller]
fn imported(env: &Environment, archive: &[u8], name: &str) -> (Value, String) {
    let path = env.root().join("source.tar");
    fs::write(&path, archive).unwrap();
    let answer = env.run(&["image", "import", "-q", "--json", path.to_str().unwrap(), "x"]).json();
    (answer["recipe"]["imported"]["form"].clone(), content(&env.artifacts().join("x"), name))
}

#[test]
fn images_are_recognized_whatever_comes_first() {
    let env = environment();
    let (docker, oci) = (docker_members("x:1", &small()), oci_members(&[("v1", &small())]));
    let of_docker = |members| ("docker", members);
    let of_oci = |members| ("oci", members);
    let both = oci.iter().chain(&docker).cloned().collect();
    for (form, members) in [
        of_docker(crane()),
        of_docker(reversed(crane())),
        of_docker(before(&["._manifest.json", "PaxHeader/x"], docker.clone())),
        of_docker(reversed(below_dot(docker.clone()))),
        of_oci(before(&["ingest/0", "ingest/1"], oci.clone())),
        of_oci(before(&["._x", "etc/passwd"], reversed(oci.clone()))),
        of_oci(below_dot(oci.clone())),
        // Newer versions of Docker write both.
        of_oci(both),
    ] {
        let first = members[0].0.clone();
        for archive in [pack(&members), gzip(&pack(&members))] {
            let (found, kept) = imported(&env, &archive, "/etc/kept");
            assert_eq!((found, kept.as_str()), (form.into(), "base"), "{first} first");
            assert_eq!(content(&env.artifacts().join("x"), "/etc/gone"), "", "{first} first");
        }
    }
}

/// Applications have such files, too.
#[test]
fn a_root_file_system_may_contain_a_manifest() {
    let env = environment();
    let web = r#"{"name":"app","icons":[],"manifests":[]}"#;
    let assets = r#"[{"url":"a.js"},{"url":"b.js"}]"#;
    for (name, text) in [
        ("manifest.json", web),
        ("manifest.json", assets),
        ("manifest.json", "not JSON"),
        ("manifest.json", r#"[{"Config":"gone.json","Layers":["gone.tar"]}]"#),
        ("manifest.json", "[]"),
        ("index.json", web),
        ("index.json", "[]"),
        ("index.json", r#"{"schemaVersion":2,"manifests":[{"digest":"x"}]}"#),
        ("repositories", "{}"),
        ("oci-layout", "notes"),
    ] {
        let members: Members = vec![
            (name.to_owned(), text.as_bytes().to_vec()),
            ("etc/kept".to_owned(), b"plain".to_vec()),
        ];
        let mut archive = pack(&members);
        assert_eq!(imported(&env, &archive, &format!("/{name}")), ("tar".into(), text.into()));
        archive = gzip(&archive);
        assert_eq!(imported(&env, &archive, "/etc/kept"), ("tar".into(), "plain".into()));
    }
}

/// Their files would make a useless root file system.
#[test]
fn an_image_without_all_of_its_files_is_refused() {
    let env = environment();
    let path = env.root().join("source.tar");
    let without = |members: &Members, gone: &str| -> Members {
        members.iter().filter(|(name, _)| !name.contains(gone)).cloned().collect()
    };
    let docker = docker_members("x:1", &small());
    let oci = oci_members(&[("v1", &small())]);
    let layer_blob = digest(&small().layers[0]).replace("sha256:", "");
    let dir: Members = vec![
        ("manifest.json".into(), br#"{"schemaVersion":2,"config":{},"layers":[]}"#.to_vec()),
        ("version".into(), b"Directory Transport Version: 1.1\n".to_vec()),
    ];
    let old: Members = vec![
        (format!("{}/layer.tar", "0a".repeat(32)), layer(&[("x", "y")])),
        ("repositories".into(), json!({ "x": { "1": "0a".repeat(32) } }).to_string().into_bytes()),
    ];
    for (members, message) in [
        (without(&docker, "layer.tar"), "it has no \"[..]/layer.tar\"[..]"),
        (without(&oci, "index.json"), "it has no \"index.json\"[..]"),
        (without(&oci, &layer_blob), "it has no \"blobs/sha256/[..]\"[..]"),
        (dir, "it is an image in skopeo's 'dir' format\nhint: [..]oci-archive[..]"),
        (old, "it was saved by a version of docker before 1.10\nhint: [..]"),
    ] {
        fs::write(&path, pack(&members)).unwrap();
        env.run(&["image", "import", "-q", path.to_str().unwrap(), "x"])
            .fails(2, &format!("mayfly: cannot import [..]: {message}"));
        let directory = env.root().join("directory");
        unpack(&members, &directory);
        env.run(&["image", "import", "-q", directory.to_str().unwrap(), "x"])
            .fails(2, &format!("mayfly: cannot import [..]: {message}"));
        fs::remove_dir_all(&directory).unwrap();
    }
}

fn unpack(members: &Members, directory: &Path) {
    for (name, content) in members {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn directories_of_images_are_recognized() {
    let env = environment();
    for (number, (form, members)) in [
        ("oci", oci_members(&[("v1", &small())])),
        ("docker", docker_members("x:1", &small())),
        ("docker", crane()),
    ]
    .into_iter()
    .enumerate()
    {
        let directory = env.root().join(number.to_string());
        unpack(&members, &directory);
        let path = directory.to_str().unwrap();
        let answer = env.run(&["image", "import", "-q", "--json", path, "x"]).json();
        assert_eq!(answer["recipe"]["imported"]["form"], form);
        assert_eq!(content(&env.artifacts().join("x"), "/etc/kept"), "base");
        env.run(&["image", "import", "-q", "--json", path, "x", "--from", "dir"]).json();
        assert_eq!(content(&env.artifacts().join("x"), "/etc/kept"), "");
    }
}

/// One image with several names needs no choice, and neither do attestations beside it.
#[test]
fn one_digest_is_one_image() {
    let env = environment();
    let mut blobs = Vec::new();
    let mut image = small().blobs(&mut blobs);
    image.as_object_mut().unwrap().remove("platform");
    let named = |pointer: &Value, name: &str| {
        let mut pointer = pointer.clone();
        pointer["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        pointer
    };
    let attestation = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2,
        "digest": digest(b"{}"), "platform": { "os": "unknown", "architecture": "unknown" },
        "annotations": { "vnd.docker.reference.type": "attestation-manifest" },
    });
    blobs.push(b"{}".to_vec());
    // An index of indexes, as buildx writes it.
    let inner = json!({ "schemaVersion": 2, "manifests": [attestation, image] }).to_string();
    let inner = inner.into_bytes();
    let nested = json!({
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest(&inner), "size": inner.len(),
    });
    blobs.push(inner);
    for pointers in [
        vec![named(&image, "one"), named(&image, "two")],
        vec![image.clone(), attestation.clone()],
        vec![attestation.clone(), named(&image, "one")],
        vec![named(&nested, "one"), named(&nested, "two")],
        vec![nested.clone()],
    ] {
        let archive = pack(&layout(blobs.clone(), &pointers));
        assert_eq!(imported(&env, &archive, "/etc/kept"), ("oci".into(), "base".into()));
    }
    let path = env.root().join("source.tar");
    fs::write(&path, pack(&layout(blobs, &[attestation]))).unwrap();
    env.run(&["image", "import", "-q", path.to_str().unwrap(), "x"])
        .fails(2, "mayfly: cannot import [..]: it holds no image\n");
}

#[test]
fn an_empty_entrypoint_is_none() {
    let env = environment();
    for (execution, entrypoint, cmd) in [
        (json!({ "Entrypoint": [""], "Cmd": ["sh"] }), json!([]), json!(["sh"])),
        (json!({ "Entrypoint": [], "Cmd": null }), json!([]), json!([])),
        (json!({ "Entrypoint": null, "Cmd": [""] }), json!([]), json!([])),
        (json!({ "Entrypoint": [""], "Cmd": [""] }), json!([]), json!([])),
        // An empty argument is an argument.
        (json!({ "Entrypoint": ["echo"], "Cmd": [""] }), json!(["echo"]), json!([""])),
        // As old versions of Docker wrote it.
        (json!({ "Entrypoint": "echo", "Cmd": "" }), json!(["echo"]), json!([])),
    ] {
        let image = Image { execution: execution.clone(), ..small() };
        imported(&env, &pack(&oci_members(&[("v1", &image)])), "/etc/kept");
        let profiles = env.run(&["profiles", "--json"]).json();
        let profile =
            profiles.as_array().unwrap().iter().find(|one| one["profile"] == "x").unwrap();
        assert_eq!((&profile["entrypoint"], &profile["cmd"]), (&entrypoint, &cmd), "{execution}");
    }
}

/// However GNU tar writes a sparse file, and whatever the archive is compressed with, with a label or without.
#[test]
fn sparse_and_labelled_archives_are_unpacked_whatever_compresses_them() {
    let env = environment();
    let tree = env.root().join("tree");
    fs::create_dir(&tree).unwrap();
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    fs::write(tree.join("plain"), "text").unwrap();
    let path = env.root().join("source");
    let formats: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    let packings: [&[&str]; 4] =
        [&[], &["--gzip", "--label=a volume"], &["--xz"], &["--zstd", "--label=a volume"]];
    for (format, packing) in
        formats.iter().flat_map(|format| packings.iter().map(move |packing| (format, packing)))
    {
        let made = Command::new("tar")
            .args(["-C", tree.to_str().unwrap(), "-S", "-c", "-f", path.to_str().unwrap()])
            .args(format.iter().chain(*packing))
            .args(["sparse", "plain"])
            .status();
        assert!(made.unwrap().success(), "{format:?} {packing:?}");
        env.run(&["image", "import", "-q", path.to_str().unwrap(), "x"]).prints("x\n");
        let image = env.artifacts().join("x");
        let root = content(&image, "/sparse");
        assert!(
            root.len() == 3 << 20 && root.trim_matches('\0') == "end",
            "{format:?} {packing:?}"
        );
        assert_eq!(root.find('e'), Some(1 << 20), "{format:?} {packing:?}");
        assert_eq!(content(&image, "/plain"), "text", "{format:?} {packing:?}");
        assert_eq!(content(&image, "/a volume"), "", "{format:?} {packing:?}");
    }
}
