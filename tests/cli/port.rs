//! Published ports and networks on a backend that has none. The conformance tests have VMs with a network.

use crate::support::environment::Environment;

#[test]
fn a_vm_without_published_ports_prints_none() {
    let env = Environment::mock();
    env.start(&["--name", "box"]);
    env.run(&["port", "box"]).is(0, "", "mayfly: VM box publishes no port\n");
    env.run(&["port", "--json", "box"]).is(0, "[]\n", "");
    let hint = "hint: it publishes no port; '--publish' of 'create' and 'run' does\n";
    env.run(&["port", "box", "80"])
        .fails(3, &format!("mayfly: VM box does not publish 80/tcp\n{hint}"));
    env.run(&["port", "box", "0"]).fails(2, "[..]not a port of the guest[..]\n[..]");
    let network = env.status("box")["network"].to_string();
    assert_eq!(network, r#"{"allow":[],"denied":0,"mode":"none","publish":[],"state":"none"}"#);
    assert!(!env.run(&["status"]).stdout().contains("NET"), "a column for nothing");
    env.run(&["stop", "box"]).prints("box\n");
    env.run(&["port", "box"]).fails(4, "mayfly: VM box is stopped[..]\n[..]");
    env.clear();
}

#[test]
fn a_backend_without_a_network_refuses_one_and_leaves_nothing() {
    let env = Environment::mock();
    for flags in [["--net", "egress"], ["--allow", "example.org"], ["--publish", "0:80"]] {
        let said = "mayfly: VMs of the mock backend have no network\nhint: [..]\n";
        env.run(&[&["create"], &flags[..]].concat()).fails(6, said);
        env.run(&[&["run"], &flags[..], &["--", "true"]].concat()).fails(125, said);
    }
    env.run(&["create", "--net", "none"]).is(0, "[..]\n", "");
    env.clear();
    assert_eq!(env.leftovers(), Vec::<String>::new());
}
