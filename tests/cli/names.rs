//! Ids, prefixes of ids, and names.

use crate::support::environment::Environment;

#[test]
fn a_vm_is_found_by_id_prefix_and_name() {
    let env = Environment::mock();
    let id = env.create(&["--name", "Build-1"]);
    for vm in [&id, &id[..11], &id[..1], "Build-1"] {
        assert_eq!(env.status(vm)["vm_id"], id.as_str(), "{vm}");
    }
    // A name has no prefixes, and an id is lower case.
    env.run(&["status", "Build"]).fails(3, "mayfly: no VM \"Build\"\n[..]");
    env.run(&["status", &format!("{id}0")]).fails(3, "mayfly: no VM [..]");
    env.rm("Build-1");
}

#[test]
fn an_ambiguous_prefix_is_refused_with_the_candidates() {
    let mut env = Environment::mock();
    env.set("MAYFLY_MAX_ACTIVE_VMS", "17");
    // Two of seventeen ids have the same first digit.
    let mut ids: Vec<String> = (0..17).map(|_| env.create(&[])).collect();
    ids.sort();
    let pair = ids.windows(2).find(|pair| pair[0][..1] == pair[1][..1]).unwrap();
    let digit = &pair[0][..1];
    let answer = env.run(&["stop", digit]);
    answer.fails(
        2,
        &format!("mayfly: \"{digit}\" could mean [..] VMs: [..]\nhint: type more of the id\n"),
    );
    assert!(
        answer.stderr().contains(pair[0].as_str()) && answer.stderr().contains(pair[1].as_str())
    );
    env.run(&["rm", "-f", digit]).fails(2, "[..]could mean[..]");
    assert_eq!(env.ids().len(), 17, "nothing was deleted");
    env.run(&["exec", digit, "--", "true"]).fails(125, "[..]could mean[..]");
    env.clear();
}

#[test]
fn a_name_wins_over_a_prefix() {
    let env = Environment::mock();
    let id = env.create(&[]);
    let named = env.create(&["--name", &id[..3]]);
    assert_eq!(env.status(&id[..3])["vm_id"], named.as_str());
    assert_eq!(env.status(&id[..4])["vm_id"], id.as_str());
    env.clear();
}

#[test]
fn a_name_is_taken_until_its_vm_is_gone() {
    let env = Environment::mock();
    let id = env.create(&["--name", "ci"]);
    env.run(&["create", "--name", "ci"]).fails(
        4,
        "mayfly: a VM named \"ci\" exists already\nhint: choose another name, or delete it with 'mayfly rm ci'\n",
    );
    assert_eq!(env.run(&["create", "--json", "--name", "ci"]).json_error(4)["kind"], "name_taken");
    env.run(&["run", "--name", "ci", "--", "true"]).fails(125, "mayfly: a VM named \"ci\"[..]");
    // An expired VM loses its name.
    env.expire(&id);
    env.create(&["--name", "ci"]);
    env.rm("ci");
}

#[test]
fn a_name_is_the_hostname_and_the_environment_knows_the_id() {
    let env = Environment::mock();
    let id = env.start(&["--name", "ci"]);
    env.run(&["exec", "ci", "-c", "echo $MAYFLY_VM"]).prints(&format!("{id}\n"));
}
