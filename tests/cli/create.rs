//! `mayfly create`.

use std::fs;

use crate::support::environment::Environment;
use crate::support::fields;

#[test]
fn prints_the_id_and_nothing_else() {
    let env = Environment::mock();
    let answer = env.run(&["create"]);
    let [id] = env.ids().try_into().unwrap();
    answer.prints(&format!("{id}\n"));
    assert!(id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let directory = env.state().join("vms").join(&id);
    assert!(directory.join("manifest.json").exists());
    env.clear();
}

#[test]
fn json_has_the_documented_fields_in_order() {
    let env = Environment::mock();
    let answer = env.run(&[
        "create",
        "--json",
        "--profile",
        "debian-git",
        "--vcpus",
        "2",
        "--mem",
        "2G",
        "--ttl",
        "90s",
        "--name",
        "ci",
        "--keep",
    ]);
    let vm = answer.json();
    assert_eq!(fields::names(answer.stdout()), fields::VM);
    let created_at = vm["created_at"].as_f64().unwrap();
    assert!(created_at > 1.6e9);
    assert!((vm["expires_at"].as_f64().unwrap() - created_at - 90.0).abs() < 0.01);
    let expected = serde_json::json!({
        "vm_id": vm["vm_id"], "profile": "debian-git", "vcpu_count": 2, "mem_mib": 2048, "disk_mib": null,
        "ttl_seconds": 90, "created_at": created_at, "expires_at": vm["expires_at"],
        "state": "created", "metadata": {}, "name": "ci", "backend": "mock",
        "accelerator": "none", "isolation": "none", "keep": true, "last_error": null,
        "labels": {}, "host": null, "image_digest": null,
        "network": { "mode": "none", "allow": [], "publish": [], "state": "none", "denied": 0 },
    });
    assert_eq!(vm, expected);
    env.clear();
}

#[test]
fn a_vm_has_a_disk_of_the_size_that_was_asked_for() {
    let mut env = Environment::mock();
    let range = "must be between 64M and 16384G, not";
    env.run(&["create", "--disk", "10M"]).fails(2, &format!("mayfly: --disk {range} 10M\n[..]"));
    env.set("MAYFLY_DISK", "1M");
    env.run(&["create"]).fails(2, &format!("mayfly: MAYFLY_DISK {range} 1M\n[..]"));

    let env = Environment::qemu();
    let size = |flags: &[&str]| -> u32 {
        let df = ["-c", "df -BM --output=size / | tail -1 | tr -dc 0-9"];
        env.run(&[&["run"], flags, &df].concat()).stdout().parse().unwrap()
    };
    let usual = env.run(&["create", "--json"]).json()["disk_mib"].as_u64().unwrap() as u32;
    let is_about = |size: u32, disk: u32| (disk * 3 / 4..=disk).contains(&size);
    // The first of a size makes its template, the second is a copy.
    for flags in [&["--disk", "300M"][..], &["--disk", "300M"], &["--disk", "300M", "--cold"]] {
        assert!(is_about(size(flags), 300), "{flags:?}");
    }
    assert!(is_about(size(&["--disk", "40G"]), 40 << 10));
    assert!(is_about(size(&[]), usual));
    let id = env.run(&["create", "--disk", "300M"]).line();
    assert_eq!(env.status(&id)["disk_mib"], 300);
    // Its files survive a stop.
    env.run(&["start", &id]).prints(&format!("{id}\n"));
    env.run(&["exec", "--keep", &id, "touch", "/root/here"]).prints("");
    env.run(&["stop", &id]).prints(&format!("{id}\n"));
    env.run(&["start", &id]).prints(&format!("{id}\n"));
    env.run(&["exec", "--keep", &id, "ls", "/root"]).prints("here\n");
    env.clear();
}

#[test]
fn defaults_come_from_the_profile() {
    let env = Environment::mock();
    let base = env.run(&["create", "--json"]).json();
    assert_eq!(base["profile"], "debian-base");
    assert_eq!((&base["vcpu_count"], &base["mem_mib"]), (&1.into(), &1024.into()));
    assert_eq!((&base["ttl_seconds"], &base["keep"]), (&600.into(), &false.into()));
    assert_eq!(base["name"], serde_json::Value::Null);
    let build = env.run(&["create", "--json", "-p", "debian-build"]).json();
    assert_eq!((&build["vcpu_count"], &build["mem_mib"]), (&2.into(), &2048.into()));
    env.clear();
}

#[test]
fn the_profile_may_come_from_a_variable() {
    let mut env = Environment::mock();
    env.set("MAYFLY_PROFILE", "debian-git");
    assert_eq!(env.run(&["create", "--json"]).json()["profile"], "debian-git");
    env.clear();
}

#[test]
fn limits_name_the_flag_the_range_and_the_file() {
    let env = Environment::mock();
    for (flag, value, change, range) in [
        ("--vcpus", "0", "lower [limits] vcpu_count", "1 and 8, not 0"),
        ("--vcpus", "9", "raise [limits] vcpu_count", "1 and 8, not 9"),
        ("--mem", "255", "lower [limits] mem_mib", "256M and 32G, not 255M"),
        ("--mem", "33G", "raise [limits] mem_mib", "256M and 32G, not 33G"),
        ("--ttl", "59s", "lower [limits] ttl_seconds", "1m and 1h, not 59s"),
        ("--ttl", "61m", "raise [limits] ttl_seconds", "1m and 1h, not 1h1m"),
    ] {
        env.run(&["create", flag, value]).fails(
            2,
            &format!(
                "mayfly: {flag} must be between {range}\nhint: {change} in [..]/profiles.toml\n"
            ),
        );
    }
    for (flag, value) in [("--vcpus", "1"), ("--mem", "32768"), ("--ttl", "1h"), ("--ttl", "60")] {
        env.create(&[flag, value]);
    }
    env.clear();
}

#[test]
fn invalid_values_are_usage_errors() {
    let env = Environment::mock();
    for (flag, value) in [
        ("--vcpus", "two"),
        ("--vcpus", "-1"),
        ("--mem", "lots"),
        ("--ttl", "soon"),
        ("--name", "a b"),
        ("--name", "-x"),
        ("--name", ""),
        ("--name", "0123456789ab"),
        ("--require", "total"),
        ("--backend", "vmware"),
    ] {
        let answer = env.run(&["create", &format!("{flag}={value}")]);
        answer.fails(2, &format!("mayfly: [..]{flag}[..]"));
    }
    assert!(!env.state().exists(), "a command that was not understood makes nothing");
}

#[test]
fn the_number_of_vms_is_limited() {
    let mut env = Environment::mock();
    let ids: Vec<String> = (0..4).map(|_| env.create(&[])).collect();
    env.run(&["create"])
        .fails(5, "mayfly: max active VMs reached (4): there are 4 VMs, [..]\nhint: [..]\n");
    let error = env.run(&["create", "--json"]).json_error(5);
    assert_eq!(error["kind"], "limit_reached");
    env.rm(&ids[0]);
    env.create(&[]);
    env.set("MAYFLY_MAX_ACTIVE_VMS", "5");
    env.create(&[]);
    env.run(&["create"]).fails(5, "mayfly: max active VMs reached (5): [..]");
    env.clear();
}

#[test]
fn expired_vms_make_room() {
    let env = Environment::mock();
    let old: Vec<String> = (0..4).map(|_| env.create(&[])).collect();
    env.expire(&old[2]);
    let new = env.create(&[]);
    let ids = env.ids();
    assert!(ids.contains(&new) && !ids.contains(&old[2]) && ids.len() == 4, "{ids:?}");
    assert!(!env.state().join("vms").join(&old[2]).exists());
    env.clear();
}

#[test]
fn a_refused_create_leaves_nothing() {
    let env = Environment::mock();
    env.run(&["create", "-p", "nope"]).fails(
        3,
        "mayfly: no profile \"nope\"\nhint: the profiles are debian-base, debian-build, debian-git, debian-kvm;[..]\n",
    );
    env.run(&["create", "--require", "hardware"]).fails(
        6,
        "mayfly: hardware isolation is required, and the mock backend offers none\nhint: [..]\n",
    );
    assert!(env.ids().is_empty());
    // Dropping the environment checks files, locks and processes.
}

#[test]
fn a_missing_backend_is_a_host_error() {
    let mut env = Environment::mock();
    env.set("MAYFLY_BACKEND", "qemu");
    env.set("MAYFLY_QEMU_BIN", "/nowhere/qemu");
    env.run(&["create"]).fails(6, "mayfly: /nowhere/qemu is not installed\nhint: [..]\n");
    env.run(&["create", "--backend", "firecracker"]).fails(6, "mayfly: [..]\nhint: [..]\n");
    // auto never selects mock.
    env.run(&["create", "--backend", "auto"]).fails(6, "mayfly: [..]\nhint: [..]\n");
    assert!(env.ids().is_empty());
}

#[test]
fn an_accelerator_a_backend_does_not_have_is_refused() {
    let mut env = Environment::mock();
    env.set("MAYFLY_ACCEL", "kvm");
    env.run(&["create"]).fails(2, "mayfly: mock has no accelerator \"kvm\"\nhint: [..]\n");
}

#[test]
fn files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let env = Environment::mock();
    let id = env.start(&[]);
    let mut looked_at = 0;
    let mut stack = vec![env.state(), env.runtime()];
    while let Some(path) = stack.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
        let is_socket = std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type());
        // The mode of a socket does not matter in a directory of mode 0700.
        if !is_socket {
            assert_eq!(metadata.permissions().mode() & 0o777, wanted, "{}", path.display());
        }
        if metadata.is_dir() && !path.ends_with("work") {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        looked_at += 1;
    }
    assert!(looked_at > 10, "only {looked_at} files");
    env.rm(&id);
}
