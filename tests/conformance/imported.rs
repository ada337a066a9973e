//! A container image, made with umoci, as a VM.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::environment::Environment;

/// The names of busybox in the image.
const APPLETS: [&str; 8] = ["cat", "env", "hostname", "id", "ls", "pwd", "sh", "stat"];

/// The image has a shell in one layer and a static program in the next; no bash, and nothing specific to Debian.
#[test]
fn an_image_that_umoci_made_boots_and_runs_its_command() {
    let mut env = Environment::qemu();
    env.keep_templates_apart();
    let archive = archive(&env);
    env.run(&["image", "import", "-q", "--mem", "256M", &archive]).prints("greeter\n");

    let run = |words: &[&str]| {
        env.run(&[&["run", "--cold", "-p", "greeter", "--name", "box"], words].concat())
    };
    // The settings of the image's configuration, and those of every VM.
    run(&["--keep"]).is(
        0,
        "hello from the image\nuid=1000(app) gid=1000(app) groups=1000(app)\n/srv/app\nbox\n\
         greeting kept\n",
        "mayfly: kept VM [..]\n",
    );
    let exec = |words: &[&str]| env.run(&[&["exec", "--keep", "box"], words].concat());
    exec(&["-u", "root", "-w", "/", "-e", "GREETING=flag", "-c", "id -u; pwd; echo $GREETING $0"])
        .prints("0\n/\nflag sh\n");
    // The image's path wins over its profile's, and its user can open the log, which is standard output.
    exec(&["-c", "echo $PATH $PROFILE; echo logged > /var/log"]).prints("/bin read\nlogged\n");
    // A static program without a shell.
    exec(&["--", "/static", "--help"]).is(0, "", "mayfly-agent: usage: [..]");
    exec(&["--", "stat", "-c", "%a %U:%G %N", "/run/greeter", "/srv/app", "/etc/hostname"]).prints(
        "2770 app:app /run/greeter\n755 root:root /srv/app\n\
         777 root:root '/etc/hostname' -> '/run/mayfly/hostname'\n",
    );
    exec(&["--", "ls", "/bin/gone"]).fails(1, "ls: /bin/gone: No such file or directory\n");
    env.rm("box");
}

/// An OCI archive of two layers; the upper one deletes a file of the lower one.
pub fn archive(env: &Environment) -> String {
    let root = env.root();
    let layout = root.join("layout");
    let image = format!("{}:v1", layout.display());
    let bundle = root.join("bundle");
    let tree = bundle.join("rootfs");
    let umoci = |args: &[&str]| tool("umoci", args);
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    let root_less: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &["--rootless"] };
    let unpack = || {
        let _ = fs::remove_dir_all(&bundle);
        let args = [&["unpack"], root_less, &["--image", &image, bundle.to_str().unwrap()]];
        umoci(&args.concat());
    };
    unpack();
    fill(&tree);
    umoci(&["repack", "--image", &image, bundle.to_str().unwrap()]);
    unpack();
    fs::remove_file(tree.join("bin/gone")).unwrap();
    fs::copy(crate::support::programs::agent(), tree.join("static")).unwrap();
    umoci(&["repack", "--image", &image, bundle.to_str().unwrap()]);
    let script = "echo hello from the $FROM; id; pwd; hostname; cat /run/greeter/*";
    umoci(&[
        "config",
        "--image",
        &image,
        "--os",
        "linux",
        "--architecture",
        "amd64",
        "--config.entrypoint",
        "/bin/sh",
        "--config.entrypoint",
        "-c",
        "--config.cmd",
        script,
        "--config.env",
        "FROM=image",
        "--config.env",
        "PATH=/bin",
        "--config.user",
        "app",
        "--config.workingdir",
        "/srv/app",
    ]);
    let archive = root.join("greeter.tar").to_str().unwrap().to_owned();
    tool("tar", &["-C", layout.to_str().unwrap(), "-cf", &archive, "."]);
    archive
}

/// A small root file system.
fn fill(tree: &Path) {
    for directory in ["bin", "etc", "run/greeter", "lib64"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    for library in busybox_and_its_libraries() {
        let inside = tree.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::copy(&library, inside).unwrap();
    }
    for applet in APPLETS {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    fs::write(tree.join("etc/profile"), "export PATH=/of/the/profile PROFILE=read\n").unwrap();
    fs::create_dir(tree.join("var")).unwrap();
    symlink("/dev/stdout", tree.join("var/log")).unwrap();
    fs::write(tree.join("bin/gone"), "").unwrap();
    fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
        .unwrap();
    fs::write(tree.join("etc/group"), "root:x:0:\napp:x:1000:\n").unwrap();
    fs::write(tree.join("etc/hostname"), "of-the-builder\n").unwrap();
    let state = tree.join("run/greeter");
    fs::write(state.join("state"), "greeting kept\n").unwrap();
    std::os::unix::fs::chown(&state, Some(1000), Some(1000)).unwrap();
    std::os::unix::fs::chown(state.join("state"), Some(1000), Some(1000)).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o2770)).unwrap();
}

/// Debian has a dynamic busybox and a static one.
fn busybox_and_its_libraries() -> Vec<PathBuf> {
    let busybox = PathBuf::from("/bin/busybox");
    let output = Command::new("ldd").arg(&busybox).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    [busybox].into_iter().chain(libraries).collect()
}

#[track_caller]
fn tool(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; make test installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
}
