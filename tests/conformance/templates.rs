//! Templates, and VMs that start from them.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::bench::Bench;
use crate::support::answer::Answer;
use crate::support::environment::Environment;
use crate::support::fields;
use crate::support::processes::eventually;

/// The arguments for a command in a new VM. It is small, because Firecracker writes all memory of a template.
fn run<'a>(flags: &[&'a str], line: &'a str) -> Vec<&'a str> {
    [&["run", "--mem", "256M"], flags, &["--", "sh", "-c", line]].concat()
}

/// Whether the command made a template, and whether its VM started from one.
fn how(answer: &Value) -> (bool, bool) {
    let phases = &answer["timings_ms"];
    (phases["freeze"].is_number(), phases["thaw"].is_number())
}

const ONLY_COPIED: (bool, bool) = (false, true);

fn templates(env: &Environment) -> Vec<Value> {
    env.run(&["template", "ls", "--json"]).json().as_array().unwrap().clone()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

pub fn copies_are_machines_of_their_own(bench: &Bench) {
    if bench.lacks_templates() {
        return;
    }
    // The first random bytes, which a key would be made of.
    let line = "head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; echo; \
                cat /etc/machine-id /proc/sys/kernel/random/uuid; hostname";
    let copy = |_| {
        let answer = bench.env.run(&run(&["--json"], line)).json();
        assert!(how(&answer).1, "{answer}");
        let said: Vec<String> =
            answer["stdout"].as_str().unwrap().lines().map(str::to_owned).collect();
        let [random, machine_id, ..] = &said[..] else { panic!("{answer}") };
        assert_eq!((random.len(), machine_id.len(), said.len()), (64, 32, 4), "{answer}");
        said
    };
    let half = bench.copies / 2;
    let said: Vec<Vec<String>> = std::thread::scope(|scope| {
        let other = scope.spawn(|| (half..bench.copies).map(copy).collect::<Vec<_>>());
        let own: Vec<_> = (0..half).map(copy).collect();
        [own, other.join().unwrap()].concat()
    });
    for what in 0..4 {
        let different: BTreeSet<&str> = said.iter().map(|copy| copy[what].as_str()).collect();
        assert_eq!(different.len(), bench.copies, "{said:#?}");
    }
}

/// The age of a template in seconds at which a copy of it is asked for the time.
const LAIN: &str = "MAYFLY_TEST_LAIN";

pub fn a_template_that_has_lain_for_a_while_goes_on_in_the_present(bench: &Bench) {
    if bench.lacks_templates() {
        return;
    }
    let env = &bench.env;
    let lain: f64 = std::env::var(LAIN).map_or(3.0, |text| text.parse().expect(LAIN));
    let first = env.start(&["--mem", "256M"]);
    let registry: Value = serde_json::from_slice(&fs::read(env.registry()).unwrap()).unwrap();
    let name = &registry["vms"][&first]["state"]["instance"]["template"];
    let created_at =
        templates(env).iter().find(|one| one["template"] == *name).unwrap()["created_at"]
            .as_f64()
            .unwrap();
    env.rm(&first);
    eventually("a template that has lain for a while", || now() - created_at > lain);

    let copy = env.start(&["--mem", "256M"]);
    let before = now();
    let guest: f64 = env.run(&["exec", &copy, "--", "date", "+%s.%N"]).line().parse().unwrap();
    let after = now();
    assert!((before - 0.5..after + 0.5).contains(&guest), "{before} {guest} {after}");
}

/// Changes one byte in the middle of a file.
fn damage(path: &Path) {
    // Some of the files are read-only.
    fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

pub fn a_template_with_a_changed_byte_is_rebuilt(bench: &Bench) {
    if bench.lacks_templates() {
        return;
    }
    let env = &bench.apart().env;
    let build = |flags: &[&str]| -> Answer {
        env.run(&[&["template", "build", "--mem", "256M"], flags].concat())
    };
    let built = build(&["--json"]);
    assert_eq!(fields::names(built.stdout()), fields::TEMPLATE);
    let built = built.json();
    let name = built["template"].as_str().unwrap();
    assert_eq!((&built["damaged"], &built["mem_mib"]), (&false.into(), &256.into()));
    assert_eq!(env.ids(), Vec::<String>::new());
    // A second build returns the same template.
    build(&[]).prints(&format!("{name}\n"));

    let directory = env.artifacts().join("templates").join(name);
    let names = fs::read_dir(&directory).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().into_string().unwrap());
    let names: BTreeSet<String> =
        names.filter(|name| !["used", "verified.json"].contains(&name.as_str())).collect();
    assert!(names.len() >= 4 && names.contains("template.json"), "{names:?}");
    // Taken from the end, the files with the digests come first.
    for file in names.iter().rev().take(bench.damaged) {
        damage(&directory.join(file));
        let remark =
            format!("mayfly: template {name} is damaged ([..]{file}[..]) and will be rebuilt\n");
        env.run(&run(&[], "echo ok")).is(0, "ok\n", &remark);
    }
    // A damaged cache of digests does not damage the template.
    fs::write(directory.join("verified.json"), "{").unwrap();
    let answer = env.run(&run(&["--json"], "echo ok")).json();
    assert_eq!((how(&answer), &answer["stdout"]), (ONLY_COPIED, &"ok\n".into()));
    let [one] = &templates(env)[..] else { panic!("not one template") };
    assert_eq!((&one["template"], &one["damaged"]), (&name.into(), &false.into()));
}

pub fn starts_that_race_make_one_template(bench: &Bench) {
    if bench.lacks_templates() {
        return;
    }
    let env = &bench.apart().env;
    let args = run(&["--json"], "echo ok");
    let racing = [(); 3].map(|()| env.live(&args));
    let mut making = None;
    eventually("a template in the making", || {
        let names = fs::read_dir(env.artifacts().join("templates")).into_iter().flatten().flatten();
        let mut names = names.map(|entry| entry.file_name().into_string().unwrap());
        making = names.find_map(|name| name.strip_prefix(".making-").map(str::to_owned));
        making.is_some()
    });
    let making = making.unwrap();
    let (name, _) = making.rsplit_once('-').unwrap();
    let refusal = format!("mayfly: template {name} is being made, [..]\nhint: [..]\n");
    env.run(&["template", "rm", name]).fails(5, &refusal);

    let answers = racing.map(|run| run.end().json());
    assert!(answers.iter().all(|answer| answer["stdout"] == "ok\n"), "{answers:#?}");
    let made = answers.iter().filter(|answer| how(answer).0).count();
    let copied = answers.iter().filter(|answer| how(answer).1).count();
    assert_eq!((made, copied), (1, 3), "{answers:#?}");
    assert_eq!(templates(env).len(), 1);
}

pub fn a_cold_start_has_nothing_to_do_with_templates(bench: &Bench) {
    if bench.skips("a process of the host does not boot") {
        return;
    }
    let env = &bench.apart().env;
    let answer = env.run(&run(&["--json", "--cold"], "echo ok")).json();
    assert_eq!((how(&answer), &answer["stdout"]), ((false, false), &"ok\n".into()));
    assert!(answer["timings_ms"]["boot"].is_number(), "{answer}");
    assert_eq!(templates(env), Vec::<Value>::new());
}

pub fn a_copy_keeps_its_disk_when_it_is_stopped(bench: &Bench) {
    if bench.lacks_templates() {
        return;
    }
    let vm = bench.vm();
    // The disk fits the guest's cache: without the cache, the files are the same.
    let write = "set -e; mkdir -p /srv/d; head -c 3000000 /dev/urandom > /srv/d/new; \
                 echo appended >> /etc/profile; rm /etc/motd; cd /; sum() { sha256sum /srv/d/new \
                 /etc/profile /bin/bash /etc/passwd; ls -d /etc/*; }; sum > /root/before; sync; \
                 echo 3 > /proc/sys/vm/drop_caches; sum | cmp - /root/before && echo same";
    vm.sh(write).prints("same\n");
    // Directories of the image are renamed, not copied.
    let rename =
        "rename('/usr/share/doc', '/doc') && rename('/doc/bash', '/usr/share/bash') or die $!";
    vm.exec(&["--", "perl", "-e", rename]).prints("");
    vm.sh("echo not synced > /root/last").prints("");
    vm.env.run(&["stop", &vm.id]).prints(&format!("{}\n", vm.id));
    // A used disk fits no template, so the VM boots.
    let again = vm.env.run(&["start", "-v", &vm.id]);
    assert!(again.stderr().contains(" boot ") && !again.stderr().contains(" thaw "), "{again}");
    let read = "sum() { sha256sum /srv/d/new /etc/profile /bin/bash /etc/passwd; ls -d /etc/*; }; \
                sum | cmp - /root/before; cat /root/last; tail -1 /etc/profile; \
                test -e /etc/motd; echo $?; ls /usr/share/bash /doc/apt | head -n 2; \
                dmesg | grep -i 'ext4.*error'";
    vm.sh(read).is(1, "not synced\nappended\n1\n/doc/apt:\n[..]\n", "");
}

pub fn a_template_can_be_deleted_while_copies_run(bench: &Bench) {
    if bench.lacks_templates() {
        return;
    }
    let apart = bench.apart();
    let env = &apart.env;
    let vm = apart.vm();
    let [one] = &templates(env)[..] else { panic!("not one template") };
    let name = one["template"].as_str().unwrap();
    env.run(&["template", "ls"]).is(0, &format!("TEMPLATE [..]\n{name} [..] ago\n"), "");
    env.run(&["template", "rm", name]).prints(&format!("{name}\n"));
    assert_eq!(templates(env), Vec::<Value>::new());
    // Reads memory that the guest has not touched yet, and files that are not in its cache.
    let line = "tail -c 120000000 /dev/zero | wc -c; cat /usr/bin/* /lib/x86_64-linux-gnu/*.so* \
                2>/dev/null | wc -c | grep -c .; grep -c processor /proc/cpuinfo";
    vm.sh(line).prints("120000000\n1\n1\n");

    // Deleting an image deletes its templates. The running VM keeps both.
    let again = env.run(&run(&["--json"], "echo ok")).json();
    assert_eq!(how(&again), (true, true));
    let [one] = &templates(env)[..] else { panic!("not one template") };
    let name = one["template"].as_str().unwrap();
    let image = env.artifacts().join("debian-base");
    let aside = image.with_file_name("aside");
    fs::rename(&image, &aside).unwrap();
    env.run(&["reap", "--dry-run"]).prints(&format!("would delete template {name}\n"));
    fs::rename(&aside, &image).unwrap();
    env.run(&["reap", "--dry-run"]).prints("");
    env.run(&["image", "rm", "-f", "debian-base"]).prints("debian-base\n");
    assert_eq!(templates(env), Vec::<Value>::new());
    vm.sh("echo still here").prints("still here\n");
}
