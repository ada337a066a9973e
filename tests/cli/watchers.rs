//! The harness's own checks can fail.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mayfly::host::atomic_file::temporary_of;

use crate::support::answer::matches;
use crate::support::environment::Environment;
use crate::support::processes::lives;

#[test]
fn a_test_that_leaves_a_vm_behind_fails_and_the_vm_is_ended_all_the_same() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let vmm = env.vmm(&id);
    let dropped = catch_unwind(AssertUnwindSafe(move || drop(env))).unwrap_err();
    let said = dropped.downcast_ref::<String>().unwrap();
    for what in [format!("process {vmm}: "), format!("vms/{id}"), format!("locks/{id}.lock")] {
        assert!(said.contains(&what), "{what} in {said}");
    }
    crate::support::processes::eventually("the VM's end", || !lives(vmm));
}

#[test]
fn a_temporary_file_that_is_left_is_seen() {
    let env = Environment::mock();
    let names = [".build-p-1-0a1b2c3d", ".making-t-12345678", ".mayfly-cp-1", ".verified.json.1.0"];
    let registry = temporary_of(&env.registry());
    let registry = registry.strip_prefix(env.root()).unwrap().to_str().unwrap();
    fs::create_dir_all(env.artifacts()).unwrap();
    fs::create_dir_all(env.state()).unwrap();
    for place in
        names.map(|name| format!("artifacts/{name}")).iter().map(String::as_str).chain([registry])
    {
        let file = env.file(place, "");
        assert_eq!(env.leftovers(), [file.to_str().unwrap()]);
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn patterns_match_what_they_say_and_no_more() {
    for (pattern, text, expected) in [
        ("", "", true),
        ("", "x", false),
        ("a", "a", true),
        ("a", "ab", false),
        ("[..]", "anything\nat all", true),
        ("a[..]", "b", false),
        ("a[..]z", "az", true),
        ("a[..]z", "a z ", false),
        ("a[..]b[..]c", "a-b-c", true),
        ("a[..]b[..]c", "a-c-b", false),
        ("aa[..]aa", "aaa", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern:?} and {text:?}");
    }
}
