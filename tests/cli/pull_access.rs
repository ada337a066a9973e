//! `mayfly image pull`: credentials, certificates, mirrors, and what is said if a registry gives nothing.

use std::fs;
use std::path::{Path, PathBuf};

use super::pull::{archive, environment, name_in, named};
use crate::support::environment::Environment;
use crate::support::registry::{ImageRegistry, PASSWORD, USER};

/// Writes a program, and puts its directory first on `PATH`.
pub fn program(env: &mut Environment, name: &str, script: &str) -> PathBuf {
    let directory = env.root().join("programs");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).unwrap();
    let usual = std::env::var("PATH").unwrap();
    env.set("PATH", format!("{}:{usual}", directory.display()));
    path
}

fn without_login() -> (Environment, ImageRegistry, String) {
    let (env, registry) = environment();
    let reference = registry.push(&archive(&named("one")), "team/app");
    fs::remove_dir_all(env.home().join(".docker")).unwrap();
    (env, registry, reference)
}

#[test]
fn credentials_are_found_where_docker_and_podman_put_them() {
    let (mut env, registry, reference) = without_login();
    let pull = |env: &Environment| env.run(&["image", "pull", "-q", &reference, "--force"]);
    let denied = format!(
        "mayfly: cannot pull {reference}: the registry denies access\n  last output of skopeo:\n  | [..]\n\
         hint: check the name, or log in: 'skopeo login {0}', 'podman login {0}' or 'docker login {0}'\n",
        registry.host
    );
    pull(&env).fails(6, &denied);

    let elsewhere = env.root().join("elsewhere");
    registry.write_password(&elsewhere);
    // What skopeo is started with, and a password is not in it.
    let calls = env.root().join("calls");
    let record = format!("echo \"$@\" >> {0}; env >> {0}", calls.display());
    program(&mut env, "skopeo", &format!("{record}\nexec /usr/bin/skopeo \"$@\""));
    for (variable, value) in [
        ("DOCKER_CONFIG", elsewhere.clone()),
        ("REGISTRY_AUTH_FILE", elsewhere.join("config.json")),
    ] {
        env.set(variable, value);
        pull(&env).prints("app\n");
        env.unset(variable);
        env.run(&["image", "rm", "app"]).prints("app\n");
        pull(&env).fails(6, &denied);
    }
    // `podman login` as an ordinary user.
    env.set("XDG_RUNTIME_DIR", env.root().join("runtime"));
    registry.write_password(&env.root().join("runtime/containers"));
    fs::rename(
        env.root().join("runtime/containers/config.json"),
        env.root().join("runtime/containers/auth.json"),
    )
    .unwrap();

    pull(&env).prints("app\n");
    env.unset("XDG_RUNTIME_DIR");
    env.run(&["image", "rm", "app"]).prints("app\n");

    // A credential helper, which docker names for a registry.
    let secret = format!("{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}");
    program(&mut env, "docker-credential-canary", &format!("read host; echo '{secret}'"));
    let config = format!("{{\"credHelpers\": {{ {:?}: \"canary\" }} }}", registry.host);
    fs::create_dir(env.home().join(".docker")).unwrap();
    fs::write(env.home().join(".docker/config.json"), config).unwrap();
    pull(&env).prints("app\n");
    assert_eq!(name_in(&env, "app"), "one");

    let calls = fs::read_to_string(calls).unwrap();
    assert!(calls.contains("inspect") && calls.contains("copy"), "{calls}");
    assert!(!calls.contains(PASSWORD), "{calls}");
    for directory in [env.state(), env.artifacts()] {
        no_secret_below(&directory);
    }
}

fn no_secret_below(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let entry = entry.unwrap();
        let about = entry.metadata().unwrap();
        if about.is_dir() {
            no_secret_below(&entry.path());
        } else if about.len() < 1 << 20 {
            let bytes = fs::read(entry.path()).unwrap();
            let found = bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
            assert!(!found, "{}", entry.path().display());
        }
    }
}

#[test]
fn a_mirror_of_the_user_is_used() {
    let (env, registry) = environment();
    registry.push(&archive(&named("one")), "mirrored/team/app:v1");
    let settings = format!(
        "[[registry]]\nlocation = \"registry.invalid\"\n\
         [[registry.mirror]]\nlocation = \"{}/mirrored\"\n",
        registry.host
    );
    fs::write(env.home().join(".config/containers/registries.conf"), settings).unwrap();
    env.run(&["image", "pull", "-q", "registry.invalid/team/app:v1"]).is(0, "app-v1\n", "");
    assert_eq!(name_in(&env, "app-v1"), "one");
}

#[test]
fn what_a_registry_does_not_give_is_told_with_a_remedy() {
    let (mut env, mut registry) = environment();
    let reference = registry.push(&archive(&named("one")), "team/app");
    let missing = registry.name("team/none:v1");
    env.run(&["image", "pull", "-q", &missing]).fails(
        3,
        "mayfly: cannot pull [..]: the registry has no such image\n  last output of skopeo:\n  | [..]\nhint: check name and tag[..]",
    );
    let error = env.run(&["image", "pull", "-q", "--json", &missing]).json_error(3);
    assert_eq!(error["kind"], "not_found", "{error}");
    let certificates = env.home().join(".config/containers/certs.d");
    let aside = env.root().join("certificates");
    fs::rename(&certificates, &aside).unwrap();
    env.run(&["image", "pull", "-q", &reference])
        .fails(6, "mayfly: cannot pull [..]: the certificate of [..] is not trusted\n[..]hint: [..]certs.d/[..]/ca.crt\n");
    fs::rename(&aside, &certificates).unwrap();
    registry.stop();
    env.run(&["image", "pull", "-q", &reference]).fails(
        6,
        "mayfly: cannot pull [..]: [..] cannot be reached\n[..]hint: check the network[..]",
    );
    for bad in ["-x", "No/Name", "a@sha256:12", "http://a.b/c"] {
        env.run(&["image", "pull", "--", bad]).fails(2, "[..]does not name an image[..]");
    }
    env.run(&["image", "pull", "blobs"]).fails(
        2,
        "mayfly: \"blobs\" cannot be a profile name: [..]\nhint: choose a name: mayfly image pull docker.io/library/blobs:latest NAME\n",
    );
    let nowhere = env.root().join("nowhere");
    env.set("PATH", nowhere);
    env.run(&["image", "pull", "-q", &reference])
        .fails(6, "mayfly: 'skopeo' is not installed\nhint: install it: apt install skopeo\n");
    let doctor = env.run(&["doctor", "--json"]);
    assert!(doctor.stdout().contains("apt install skopeo"), "{}", doctor.stdout());
}
