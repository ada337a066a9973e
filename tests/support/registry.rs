//! A registry of container images on this machine: Debian's docker-registry, with TLS and a password.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::json;
use tempfile::TempDir;

use super::environment::Environment;

/// The user, the password, and the password's bcrypt digest.
pub const USER: &str = "user";
pub const PASSWORD: &str = "canary-5f3a";
const HASHED: &str = "$2y$04$syqiyFUBmcLxFlTCxp94/.V312H3Tr0TrOWpnHZ17dd1KARjB3pC2";

/// How long the registry may take to start.
const START: Duration = Duration::from_secs(30);

/// A running registry. Dropping it stops it.
pub struct ImageRegistry {
    root: TempDir,
    /// Its address and port.
    pub host: String,
    server: Child,
}

impl ImageRegistry {
    pub fn start() -> ImageRegistry {
        let root = tempfile::Builder::new().prefix("mf-registry-").tempdir_in("/tmp").unwrap();
        let path = |name: &str| root.path().join(name).display().to_string();
        let (key, certificate) = (path("key.pem"), path("ca.pem"));
        let curve = "ec_paramgen_curve:prime256v1";
        let words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days", "2"];
        let names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
        let files = ["-keyout", &key, "-out", &certificate];
        tool(Command::new("openssl").args(words).args(names).args(files));
        fs::write(path("htpasswd"), format!("{USER}:{HASHED}\n")).unwrap();
        let (host, server) = serve(&root);
        let registry = ImageRegistry { root, host, server };
        registry.trust_in(&registry.root.path().join("home"));
        registry
    }

    /// Makes skopeo trust the registry's certificate if `home` is its user's.
    pub fn trust_in(&self, home: &Path) {
        let certificates = home.join(".config/containers/certs.d").join(&self.host);
        fs::create_dir_all(&certificates).unwrap();
        fs::copy(self.root.path().join("ca.pem"), certificates.join("ca.crt")).unwrap();
    }

    /// Makes skopeo trust the registry, and gives it the password, in a file as docker writes it.
    pub fn log_in(&self, env: &Environment) {
        self.trust_in(&env.home());
        self.write_password(&env.home().join(".docker"));
    }

    /// Writes docker's file with the password.
    pub fn write_password(&self, directory: &Path) {
        let word = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let config = json!({ "auths": { &self.host: { "auth": word } } });
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("config.json"), config.to_string()).unwrap();
    }

    /// The complete name of an image.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host)
    }

    /// Puts the image or index in an OCI archive into the registry, and returns its complete name.
    pub fn push(&self, archive: &[u8], image: &str) -> String {
        let path = self.root.path().join("push.tar");
        fs::write(&path, archive).unwrap();
        self.push_file(&path, image)
    }

    /// As [`ImageRegistry::push`].
    pub fn push_file(&self, archive: &Path, image: &str) -> String {
        let tag = if image.contains(':') { "" } else { ":latest" };
        let name = format!("{}{tag}", self.name(image));
        let mut skopeo = Command::new("skopeo");
        skopeo
            .env("HOME", self.root.path().join("home"))
            .args(["--insecure-policy", "copy", "--quiet", "--all"])
            .args(["--dest-creds", &format!("{USER}:{PASSWORD}")])
            .arg(format!("oci-archive:{}", archive.display()))
            .arg(format!("docker://{name}"));
        tool(&mut skopeo);
        name
    }

    /// Stops it: nothing listens on its port any more.
    pub fn stop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// What it logged: requests, with the name of the user.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.path().join("log")).unwrap()
    }
}

impl Drop for ImageRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the server on a free port. Another program may take the port first, so it tries several.
fn serve(root: &TempDir) -> (String, Child) {
    let path = |name: &str| -> PathBuf { root.path().join(name) };
    for _ in 0..10 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        drop(listener);
        let config = json!({
            "version": "0.1",
            "storage": { "filesystem": { "rootdirectory": path("data") } },
            "http": {
                "addr": host, "tls": { "certificate": path("ca.pem"), "key": path("key.pem") },
            },
            "auth": { "htpasswd": { "realm": "test", "path": path("htpasswd") } },
        });
        // JSON is YAML.
        fs::write(path("config.yml"), config.to_string()).unwrap();
        let log = File::create(path("log")).unwrap();
        let mut server = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("docker-registry runs; make test installs it");
        let deadline = Instant::now() + START;
        while server.try_wait().unwrap().is_none() {
            if TcpStream::connect(&host).is_ok() {
                return (host, server);
            }
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("the registry does not start: {}", fs::read_to_string(path("log")).unwrap());
}

#[track_caller]
fn tool(command: &mut Command) {
    let output = command.output();
    let output =
        output.unwrap_or_else(|error| panic!("{command:?}: {error}; make test installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
