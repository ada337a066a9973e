//! What the programs that make an image of a stranger's archive can reach, and how soon a signal ends them.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::GzEncoder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::archives::{Image, content, layer, layout, oci, pack};
use crate::support::answer::Answer;
use crate::support::environment::Environment;
use crate::support::{processes, programs};

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID and SETFCAP (capabilities(7)).
const CAPABILITIES: u64 = 0x8000_001b;

/// Longer than the two seconds that are promised, for a busy machine.
const SOON: Duration = Duration::from_secs(6);

fn environment() -> Environment {
    let mut env = Environment::mock();
    env.keep_templates_apart();
    env
}

/// Puts a script before all programs of that name.
fn replace_program(env: &mut Environment, name: &str, script: &str) {
    let directory = env.root().join("programs");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    env.set("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", directory.display()));
}

fn archive(env: &Environment) -> PathBuf {
    let path = env.root().join("source.tar");
    fs::write(&path, oci(&[("v1", &Image::of(&[layer(&[("etc/kept", "x")])]))])).unwrap();
    path
}

/// The directories of unfinished images.
fn unfinished(env: &Environment) -> Vec<String> {
    let entries = fs::read_dir(env.artifacts()).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".build-")).collect()
}

#[test]
fn a_tool_reaches_only_the_files_it_needs() {
    let mut env = environment();
    let secret = env.root().join("secret");
    fs::write(&secret, "canary").unwrap();
    let secret = secret.display();
    let script = format!(
        "#!/bin/sh\nls -l /proc/$$/fd\ngrep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/self/status\n\
         tail -n +3 /proc/net/dev\numask\necho x > {secret} || echo no writing\n\
         cat {secret} || echo no reading\necho x > \"$(dirname \"$0\")/x\" || echo none of its own\nexit 1\n"
    );
    replace_program(&mut env, "mke2fs", &script);
    let source = archive(&env);
    let shell = format!(
        "PATH={}/programs:$PATH; export PATH; umask 077; exec 7<{secret} 9<>{secret}; exec {} image import -q {} x",
        env.root().display(),
        programs::mayfly().display(),
        source.display()
    );
    let answer = env.run_client("sh", &["-c", &shell]);
    assert_eq!(answer.code(), 6, "{}", answer.stderr());
    let said = answer.stderr().replace("\\t", " ").replace('\t', " ");
    for part in
        ["NoNewPrivs: 1", "Seccomp: 2", "no writing", "no reading", "none of its own", "0022"]
    {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let shown = |name: &str| {
        let at = said.find(name).unwrap_or_else(|| panic!("no {name} in {said}")) + name.len();
        u64::from_str_radix(said[at..].split_whitespace().next().unwrap(), 16).unwrap()
    };
    assert_eq!((shown("CapEff:"), shown("CapBnd:")), (CAPABILITIES, CAPABILITIES));
    assert!(!said.contains(" 7 -> ") && !said.contains(" 9 -> "), "{said}");
    assert!(said.contains("lo:") && !said.contains("eth"), "{said}");
    assert_eq!(fs::read_to_string(env.root().join("secret")).unwrap(), "canary");
    assert_eq!(unfinished(&env), [""; 0]);
}

/// The processes of this environment that unpack.
fn unpackers(env: &Environment) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let works_in = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        works_in.starts_with(env.root())
            && program == programs::mayfly()
            && processes::command_line(*pid).contains("__unpack")
    })
    .collect()
}

#[test]
fn the_unpacker_is_confined() {
    let env = environment();
    let names: Vec<String> = (0..5_000).map(|number| format!("d/{number}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let mut archive = layer(&files);
    archive.extend([0; 1024]);
    let path = env.root().join("source.tar");
    fs::write(&path, archive).unwrap();
    let mut import = env.command(&["image", "import", "-q", path.to_str().unwrap(), "x"]);
    let mut import = import.stdout(Stdio::null()).spawn().unwrap();
    let mut seen = None;
    processes::eventually("the unpacker", || {
        for pid in unpackers(&env) {
            let fields = ["Seccomp", "NoNewPrivs", "CapEff", "CapBnd"].map(|field| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let line = status.lines().find(|line| line.starts_with(&format!("{field}:")));
                line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
            });
            let network = fs::read_link(format!("/proc/{pid}/ns/net"));
            if fields[0] == "2"
                && let Ok(network) = network
            {
                seen = Some((fields, network));
                return true;
            }
        }
        import.try_wait().unwrap().is_some()
    });
    let ([_, privileges, effective, bounding], network) = seen.expect("it was never confined");
    assert_eq!(privileges, "1");
    for set in [effective, bounding] {
        assert_eq!(u64::from_str_radix(&set, 16).unwrap(), CAPABILITIES);
    }
    assert_ne!(network, fs::read_link("/proc/self/ns/net").unwrap());
    assert!(import.wait().unwrap().success());
    assert_eq!(content(&env.artifacts().join("x"), "/d/4999"), "x");
}

/// A gzip stream of so many times 16 MiB of zeros after `start`.
fn bomb(start: &[u8], times: usize) -> Vec<u8> {
    let gzip = |bytes: &[u8]| {
        let mut packed = Vec::new();
        GzEncoder::new(bytes, Compression::best()).read_to_end(&mut packed).unwrap();
        packed
    };
    let mut packed = gzip(start);
    let zeros = gzip(&vec![0; 16 << 20]);
    (0..times).for_each(|_| packed.extend(&zeros));
    packed
}

/// A global header that says that every file has a TiB, and one such file.
fn giant() -> Vec<u8> {
    let record = b"22 size=1099511627776\n";
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XGlobalHeader);
    header.set_size(record.len() as u64);
    header.set_path("pax").unwrap();
    header.set_cksum();
    tar.append(&header, &record[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_path("giant").unwrap();
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, &b""[..]).unwrap();
    let mut bytes = tar.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

#[track_caller]
fn ends_soon(env: &Environment, what: &str, mut import: Child, signal: Signal, code: i32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while unfinished(env).is_empty() {
        let ended = import.try_wait().unwrap();
        assert!(
            ended.is_none() && Instant::now() < deadline,
            "{what}: it did not begin: {ended:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(import.id().cast_signed()), signal).unwrap();
    let begun = Instant::now();
    let ended = import.wait().unwrap();
    assert!(begun.elapsed() < SOON, "{what}: it took {:?}", begun.elapsed());
    assert_eq!(ended.code(), Some(code), "{what}");
    assert_eq!(unfinished(env), [""; 0], "{what}");
    assert_eq!(unpackers(env), [0; 0], "{what}");
}

#[test]
fn a_signal_ends_an_import_soon_whatever_it_waits_for() {
    let mut env = environment();
    let import = |env: &Environment, source: &str, stdin: Stdio| {
        let mut command = env.command(&["image", "import", "-q", source, "x"]);
        command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let fifo = env.root().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let waiting = import(&env, fifo.to_str().unwrap(), Stdio::null());
    ends_soon(&env, "a FIFO without a writer", waiting, Signal::SIGINT, 130);

    let mut fed = import(&env, "-", Stdio::piped());
    let mut input = fed.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || while input.write_all(&[b'x'; 4096]).is_ok() {});
    ends_soon(&env, "an endless standard input", fed, Signal::SIGTERM, 143);
    feeding.join().unwrap();

    let path = env.root().join("bomb.tar.gz");
    let source = path.to_str().unwrap().to_owned();
    fs::write(&path, bomb(&giant(), 500)).unwrap();
    let bombed = import(&env, &source, Stdio::null());
    ends_soon(&env, "a bomb", bombed, Signal::SIGINT, 130);
    // The same in the unpacker.
    let mut command = env.command(&[
        "image",
        "import",
        "-q",
        "--from",
        "tar",
        &source,
        "x",
        "--max-size",
        "4096G",
    ]);
    let unpacking = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    ends_soon(&env, "a bomb that is unpacked", unpacking, Signal::SIGTERM, 143);

    replace_program(&mut env, "mke2fs", "#!/bin/sh\nexec sleep 1017\n");
    let source = archive(&env);
    let making = import(&env, source.to_str().unwrap(), Stdio::null());
    ends_soon(&env, "mke2fs", making, Signal::SIGHUP, 129);
}

/// Whatever an archive says, each line on standard error is mayfly's own.
#[test]
fn texts_of_an_archive_forge_no_lines() {
    let env = environment();
    let forged = "x\nmayfly: forged\u{1b}[2J";
    let mut tar = tar::Builder::new(Vec::new());
    let name = format!("SCHILY.xattr.user.{forged}");
    tar.append_pax_extensions([(name.as_str(), &b"1"[..])]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("file").unwrap();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, &b""[..]).unwrap();
    let image = Image::of(&[tar.into_inner().unwrap()]);
    let other = Image::of(&[layer(&[(forged, "x"), ("../x", "y")])]);
    let mut blobs = Vec::new();
    let mut strange = image.blobs(&mut blobs);
    strange["mediaType"] = json!(forged);
    let source = env.root().join("source.tar");
    let mark = ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    let index = |text: String| vec![mark.clone(), ("index.json".to_owned(), text.into_bytes())];
    let forged_json = json!(forged).to_string();
    for archive in [
        oci(&[(forged, &image), ("y", &other)]),
        oci(&[("v1", &other)]),
        oci(&[(forged, &image)]),
        pack(&layout(blobs, &[strange])),
        pack(&index(format!("{{\"manifests\":{forged_json}}}"))),
        pack(&index(format!("{{\"manifests\":[{{\"digest\":{forged_json}}}]}}"))),
        pack(&vec![(format!("../{forged}"), b"x".to_vec())]),
    ] {
        fs::write(&source, archive).unwrap();
        let answers = [
            env.run(&["image", "import", source.to_str().unwrap(), "x"]),
            env.run(&["image", "import", source.to_str().unwrap(), "x", "--ref", forged]),
            env.run(&["profiles"]),
            env.run(&["image", "ls"]),
        ];
        for answer in answers {
            let lines = answer.stdout().lines().chain(answer.stderr().lines());
            for line in lines {
                assert!(!line.starts_with("mayfly: forged") && !line.contains('\u{1b}'), "{line}");
            }
        }
    }
}

#[test]
fn a_root_directory_that_is_a_source_is_only_read() {
    let env = environment();
    let tree = env.root().join("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/kept"), "here").unwrap();
    let outside = env.root().join("outside");
    fs::write(&outside, "canary").unwrap();
    std::os::unix::fs::symlink(&outside, tree.join("etc/link")).unwrap();
    import_directory(&env, &tree);
    assert_eq!(content(&env.artifacts().join("x"), "/etc/kept"), "here");
    assert_eq!(fs::read_to_string(outside).unwrap(), "canary");
}

#[track_caller]
fn import_directory(env: &Environment, tree: &Path) {
    env.run(&["image", "import", "-q", tree.to_str().unwrap(), "x"]).prints("x\n");
}

/// Before Linux 5.19, or where Landlock is disabled, everything else still confines.
#[test]
fn without_landlock_images_are_imported_and_doctor_says_so() {
    if Command::new("strace").arg("-V").output().is_err() {
        return;
    }
    let env = environment();
    let without = |args: &[&str]| {
        let trace =
            "-e trace=landlock_create_ruleset -e inject=landlock_create_ruleset:error=ENOSYS";
        let words = ["-f", "-qq", "-o", "/dev/null"].into_iter().chain(trace.split(' '));
        let words: Vec<&str> = words.chain([env!("CARGO_BIN_EXE_mayfly")]).collect();
        env.run_client("strace", &[&words, args].concat())
    };
    let has = |answer: &Answer| {
        answer.json()["checks"].as_array().unwrap().iter().any(|check| check["name"] == "landlock")
    };
    assert!(!has(&env.run(&["doctor", "--json"])));
    let answer = without(&["doctor", "--json"]);
    assert!(has(&answer) && answer.json()["usable"] == true, "{answer}");
    let source = archive(&env);
    without(&["image", "import", "-q", source.to_str().unwrap(), "x"]).prints("x\n");
    assert_eq!(content(&env.artifacts().join("x"), "/etc/kept"), "x");
}
