//! Package managers in a guest, with the mirrors that this machine uses. What keeps them from a mirror, they follow as a
//! user would: each denial names the rule that allows it.

use std::collections::BTreeSet;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::Bench;
use crate::support::environment::Environment;
use crate::support::live::Live;

/// The certificates that this machine trusts, and their place in a guest.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Variables in which programs look for that file.
const CERTIFICATE_VARIABLES: [&str; 5] =
    ["SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO", "GIT_SSL_CAINFO"];

/// Packages that packages are installed with: those whose image is built in half a minute, and all.
const MANAGERS: &str = r#"
    [profiles.fetchers]
    extends = "debian-base"
    packages = ["ca-certificates", "git", "python3-pip"]

    [profiles.managers]
    extends = "fetchers"
    packages = ["cargo", "gcc", "libc6-dev", "npm"]
    mem_mib = 2048
"#;

/// How often the rules of new denials are added. The first attempt shows which address a name has.
const ATTEMPTS: usize = 4;

/// One attempt may take long in an emulated guest.
const LIMIT: &str = "8m";

/// Debian's packages, if the mirror that the guest's image came from answers.
#[test]
fn apt_installs_a_package() {
    let bench = Bench::qemu();
    let vm = bench.vm();
    let sources = vm.sh("cat /etc/apt/sources.list").stdout().to_owned();
    drop(vm);
    // Only the first list: the guest is slow.
    let source = sources.lines().find(|line| line.starts_with("deb ")).unwrap_or_default();
    let mirror = source.split_whitespace().find(|word| word.contains("://")).unwrap_or_default();
    if !answers(mirror) {
        eprintln!("skipped: the mirror in {source:?} does not answer");
        return;
    }
    let script = format!(
        "set -e; echo '{source}' > /tmp/list; \
         from='-o Dir::Etc::sourcelist=/tmp/list -o Dir::Etc::sourceparts=- -o Acquire::Languages=none'; \
         apt-get -qq $from update; apt-get -qq $from install -y hello > /dev/null 2>&1; hello -g installed"
    );
    assert_eq!(follow_denials(&bench.env, &["--mem", "1G"], &script), "installed\n");
}

/// Python's packages, if the mirror that this machine's pip uses answers.
#[test]
fn pip_installs_a_package() {
    let fetched = tempfile::tempdir().unwrap();
    let download = ["-m", "pip", "download", "-q", "--no-deps", "tomli"];
    if !works(Command::new("python3").args(download).current_dir(fetched.path())) {
        eprintln!("skipped: pip finds no mirror here");
        return;
    }
    let env = managers("fetchers");
    let script = "pip install -q --no-deps --break-system-packages tomli 2> /dev/null; \
                  python3 -c 'import tomli; print(tomli.__name__)'";
    assert_eq!(follow_denials(&env, &["-p", "fetchers"], script), "tomli\n");
}

#[test]
fn git_clones_a_repository_of_this_host() {
    let env = managers("fetchers");
    let served = tempfile::tempdir().unwrap();
    let (port, _server) = serve_repository(served.path());
    let allow = format!("host:{port}");
    let clone = format!("git clone -q http://{allow}/repo.git && cat repo/file");
    env.run(&["run", "-p", "fetchers", "--allow", &allow, "-c", &clone]).prints("cloned\n");
}

/// npm and cargo, which take minutes: only if `MAYFLY_TEST_PACKAGES` is set.
#[test]
fn every_package_manager_works_in_a_guest() {
    if std::env::var_os("MAYFLY_TEST_PACKAGES").is_none_or(|value| value.is_empty()) {
        eprintln!("skipped: MAYFLY_TEST_PACKAGES is not set");
        return;
    }
    let env = managers("managers");
    let run = |script: &str| {
        let begun = Instant::now();
        let printed = follow_denials(&env, &["-p", "managers"], script);
        println!("{:.0} s", begun.elapsed().as_secs_f64());
        printed
    };
    let npm = "set -e; cd; npm install --silent --no-audit --no-fund is-number > /dev/null; \
               node -e 'console.log(require(\"is-number\")(5))'";
    assert_eq!(run(npm), "true\n");
    // Debian's cargo knows the index that is not a repository only as an unstable feature.
    let cargo = "set -e; cd; cargo new -q --vcs none demo; cd demo; \
                 echo 'memoffset = \"=0.7.1\"' >> Cargo.toml; \
                 RUSTC_BOOTSTRAP=1 cargo -q -Z sparse-registry run";
    assert_eq!(run(cargo), "Hello, world!\n");
}

/// An environment with the image of this profile.
fn managers(profile: &str) -> Environment {
    let mut env = Environment::qemu();
    env.profiles(MANAGERS);
    // It says on standard error what it does.
    assert_eq!(env.run(&["image", "build", profile]).code(), 0);
    env
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Runs a script in new VMs with access to the internet, each with the rules that the last one's denials named.
/// Returns what it printed when it succeeded.
fn follow_denials(env: &Environment, machine: &[&str], script: &str) -> String {
    let mut rules = BTreeSet::new();
    let mut said = String::new();
    for _ in 0..ATTEMPTS {
        let allowed: Vec<&str> = rules.iter().flat_map(|rule: &String| ["--allow", rule]).collect();
        let id = env
            .start(&[&["--keep", "--ttl", "30m", "--net", "egress"], machine, &allowed].concat());
        let mut flags = vec!["exec".to_owned(), "--timeout".into(), LIMIT.into()];
        flags.extend(configuration(env, &id).iter().flat_map(|value| ["-e".into(), value.clone()]));
        flags.extend([&id, "-c", script].map(str::to_owned));
        let answer = env.run(&flags);
        let denied = env.run(&["logs", "--net", "--json", &id]).json();
        env.rm(&id);
        if answer.code() == 0 {
            return answer.stdout().to_owned();
        }
        said = answer.stderr().to_owned();
        let before = rules.len();
        rules.extend(named_rules(&denied));
        if rules.len() == before {
            break;
        }
    }
    panic!("with {rules:?}: {said}");
}

/// The rules that would allow what was denied.
fn named_rules(denied: &Value) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    let mut waiting = vec![denied];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Array(all) => waiting.extend(all),
            Value::Object(fields) => {
                rules.extend(fields.get("allow").and_then(Value::as_str).map(str::to_owned));
                waiting.extend(fields.values());
            }
            _ => {}
        }
    }
    rules
}

/// What the package managers of this machine are told by variables, for those of a guest, which also gets the
/// certificates.
fn configuration(env: &Environment, id: &str) -> Vec<String> {
    let mut all: Vec<String> = std::env::vars()
        .filter(|(name, _)| {
            let lower = name.to_lowercase();
            lower.ends_with("_proxy")
                || ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"].contains(&&**name)
                || lower == "npm_config_registry"
                || (name.starts_with("CARGO_REGISTRIES_") || name.starts_with("CARGO_SOURCE_"))
        })
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if Path::new(CERTIFICATES).exists() {
        env.run(&["exec", "--keep", id, "-c", "mkdir -p /etc/ssl/certs"]).prints("");
        env.run(&["cp", CERTIFICATES, &format!("{id}:{CERTIFICATES}")]).prints("");
        all.extend(CERTIFICATE_VARIABLES.map(|name| format!("{name}={CERTIFICATES}")));
    }
    all
}

/// Whether something listens at the place of a URL.
fn answers(site: &str) -> bool {
    let host = site.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let place = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let addresses = place.to_socket_addrs().into_iter().flatten();
    addresses
        .into_iter()
        .any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok())
}

/// Serves a repository with one file over HTTP on the host's loopback.
fn serve_repository(directory: &Path) -> (u16, Live) {
    let script = "set -e; git init -q repo; cd repo; git config user.name t; git config user.email t@t; \
                  echo cloned > file; git add file; git commit -qm first; cd ..; \
                  git clone -q --bare repo repo.git; git -C repo.git update-server-info";
    let made = Command::new("sh").args(["-c", script]).current_dir(directory).status().unwrap();
    assert!(made.success());
    let serve = "import http.server as h, sys\n\
                 server = h.ThreadingHTTPServer((\"127.0.0.1\", 0), h.SimpleHTTPRequestHandler)\n\
                 print(server.server_port, flush=True)\nserver.serve_forever()";
    let mut command = Command::new("python3");
    command.args(["-c", serve]).current_dir(directory);
    let mut server = Live::start(command);
    let port = server.says("\n").trim().parse().unwrap();
    (port, server)
}
