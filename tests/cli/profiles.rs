//! `mayfly profiles`, and the files they come from.

use crate::support::environment::Environment;
use crate::support::fields;

#[test]
fn lists_the_built_in_ones_with_their_defaults() {
    let env = Environment::mock();
    let answer = env.run(&["profiles", "--json"]);
    let list = answer.json();
    let names: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|profile| profile["profile"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["debian-base", "debian-build", "debian-git", "debian-kvm"]);
    for profile in list.as_array().unwrap() {
        assert!(!profile["description"].as_str().unwrap().is_empty());
        assert_eq!(profile["image_built"], false);
        for field in ["vcpu_count", "mem_mib", "ttl_seconds"] {
            assert!(profile[field].is_u64(), "{field} of {profile}");
        }
    }
    env.run(&["profiles"]).is(
        0,
        "PROFILE [..]\ndebian-base [..]not built[..]\ndebian-build[..]\ndebian-git[..]\ndebian-kvm[..]\n",
        "",
    );
    assert!(!env.state().exists(), "looking makes nothing");
}

#[test]
fn a_users_file_changes_fields_and_adds_profiles() {
    let mut env = Environment::mock();
    env.profiles(
        "[limits]\nmax_active_vms = 1\n[profiles.debian-base]\nmem_mib = 512\n\
         [profiles.mine]\nextends = \"debian-git\"\ndescription = \"Mine.\"\nttl_seconds = 120\n",
    );
    let vm = env.run(&["create", "--json"]).json();
    assert_eq!((&vm["mem_mib"], &vm["vcpu_count"]), (&512.into(), &1.into()));
    env.run(&["create"]).fails(5, "mayfly: max active VMs reached (1)[..]");
    env.clear();
    let vm = env.run(&["create", "--json", "-p", "mine"]).json();
    assert_eq!((&vm["profile"], &vm["ttl_seconds"]), (&"mine".into(), &120.into()));
    env.run(&["profiles"]).is(0, "[..]mine [..]Mine.\n", "");
    env.clear();
}

#[test]
fn a_limit_on_networks_is_enforced() {
    let mut env = Environment::mock();
    env.profiles("[limits]\nnetwork = \"named\"\n");
    let refusal = |asked: &str, limit: &str| {
        format!(
            "mayfly: {asked} is more network than a VM may have, which is {limit}\n\
             hint: raise [limits] network in [..]:2\n"
        )
    };
    env.run(&["create", "--net", "egress"]).fails(2, &refusal("--net egress", "named"));
    env.set("MAYFLY_NET", "egress");
    env.run(&["create"]).fails(2, &refusal("MAYFLY_NET egress", "named"));
    env.unset("MAYFLY_NET");
    // The limit allows it, but not the backend.
    let none =
        "mayfly: VMs of the mock backend have no network\nhint: use '--backend qemu', [..]\n";
    env.run(&["create", "--allow", "a.example"]).fails(6, none);
    env.profiles("[limits]\nnetwork = \"none\"\n");
    for [flag, value] in [["--allow", "a.example"], ["--publish", "8080:80"]] {
        env.run(&["create", flag, value]).fails(2, &refusal(flag, "none"));
    }
    env.create(&["--net", "none"]);
    env.clear();
}

#[test]
fn a_profiles_network_is_shown_and_can_be_turned_off() {
    let mut env = Environment::mock();
    env.profiles(
        "[profiles.mine]\nextends = \"debian-base\"\nnetwork = \"egress\"\n\
         allow = [\"192.168.1.7:5432\"]\npublish = [\"8080:80\"]\n",
    );
    let list = env.run(&["profiles", "--json"]).json();
    let mine =
        list.as_array().unwrap().iter().find(|profile| profile["profile"] == "mine").unwrap();
    assert_eq!(mine["network"], "egress");
    assert_eq!(mine["allow"], serde_json::json!(["192.168.1.7:5432"]));
    assert_eq!(mine["publish"], serde_json::json!(["127.0.0.1:8080:80"]));
    env.set("MAYFLY_PROFILE", "mine");
    env.run(&["config", "show", "net"]).is(
        0,
        "KEY [..]\nnet [..]egress [..]profile mine[..]\n",
        "",
    );
    env.run(&["create"]).fails(6, "mayfly: VMs of the mock backend have no network\n[..]");
    env.create(&["--net", "none"]);
    env.set("MAYFLY_NET", "none");
    env.create(&[]);
    env.clear();
}

#[test]
fn a_users_limits_are_enforced() {
    let mut env = Environment::mock();
    env.profiles("[limits]\nvcpu_count = { min = 1, max = 2 }\n");
    env.run(&["create", "--vcpus", "3"])
        .fails(2, "mayfly: --vcpus must be between 1 and 2, not 3\n[..]");
    env.create(&["--vcpus", "2"]);
    env.clear();
}

#[test]
fn mistakes_name_the_file_and_the_key() {
    let mut env = Environment::mock();
    for (text, word) in [
        ("[profiles.debian-base]\nmemory = 1\n", "memory"),
        ("[limit]\n", "limit"),
        ("[limits]\nmax_vms = 4\n", "max_vms"),
        ("[limits]\nvcpu_count = { min = 1, max = 8, step = 2 }\n", "step"),
        ("[profiles.debian-base]\nmem_mib = \"1G\"\n", "mem_mib"),
        ("not toml", "not"),
    ] {
        let path = env.profiles(text);
        for args in [&["profiles"][..], &["create"]] {
            let answer = env.run(args);
            answer.fails(2, &format!("mayfly: {}:[..]", path.display()));
            assert!(answer.stderr().contains(word), "{word} in {answer}");
        }
        env.run(&["run", "--", "true"]).fails(125, &format!("mayfly: {}:[..]", path.display()));
    }
    // Verbs that need no profile work without.
    env.run(&["status", "--json"]).prints("[]\n");
}

#[test]
fn mistakes_in_meaning_name_the_profile_and_the_field() {
    let mut env = Environment::mock();
    for (text, expected) in [
        (
            "[profiles.debian-base]\nmem_mib = 1\n",
            "\"debian-base\": mem_mib must be between 256 and 32768, not 1",
        ),
        ("[profiles.a]\nextends = \"b\"\n", "\"a\": it extends \"b\", which is not a profile"),
        ("[profiles.\"../up\"]\n", "\"../up\" cannot be a profile name: [..]"),
        ("[profiles.a]\npackages = [\"--hook=x\"]\n", "\"--hook=x\" is not a package name"),
    ] {
        env.profiles(text);
        env.run(&["create"]).fails(2, &format!("mayfly: [..]{expected}[..]"));
    }
}

#[test]
fn a_named_file_must_exist() {
    let mut env = Environment::mock();
    env.set("MAYFLY_PROFILES", "/no/such/file.toml");
    env.run(&["create"]).fails(
        3,
        "mayfly: MAYFLY_PROFILES: cannot read /no/such/file.toml: No such file or directory\n",
    );
}

#[test]
fn a_profile_may_require_isolation() {
    let mut env = Environment::mock();
    env.profiles("[profiles.debian-base]\nrequire = \"emulated\"\n");
    env.run(&["create"])
        .fails(6, "mayfly: emulated isolation is required, and the mock backend offers none\n[..]");
    // A flag can only require more isolation.
    env.run(&["create", "--require", "none"])
        .fails(6, "mayfly: emulated isolation is required[..]");
}

#[test]
fn json_fields_have_the_names_of_the_file() {
    let env = Environment::mock();
    let answer = env.run(&["profiles", "--json"]);
    let line = answer.stdout().trim_end();
    let first = &line[1..=line.find("},{").unwrap()];
    let names = fields::names(first);
    assert_eq!(names.first().map(String::as_str), Some("profile"));
    for field in
        ["description", "vcpu_count", "mem_mib", "ttl_seconds", "keep", "require", "image_built"]
    {
        assert!(names.iter().any(|name| name == field), "{field} in {names:?}");
    }
}
