//! Compares the documentation's tables and lists of names with the code.

use clap::ValueEnum;
use mayfly::model::Isolation;
use mayfly::settings::{BUILT_IN, merge};

use super::blocks_of;
use super::markdown::{page, readme, tables};
use super::shell::Shell;

/// The lines between two headings of `mayfly --help`, each as its first word and the rest.
fn section(heading: &str, next: &str) -> Vec<Vec<String>> {
    let help = mayfly::cli::command().render_long_help().to_string();
    let (_, section) = help.split_once(&format!("\n{heading}:\n")).unwrap();
    let (section, _) = section.split_once(&format!("\n{next}:\n")).unwrap();
    let entries = section.lines().filter(|line| line.starts_with("  "));
    entries
        .map(|line| {
            let (name, about) = line.trim().split_once(' ').unwrap();
            vec![name.to_owned(), about.trim().to_owned()]
        })
        .collect()
}

#[test]
fn exit_codes() {
    assert_eq!(tables(&page("docs/scripting.md"), "code"), section("Exit status", "Environment"));
}

#[test]
fn variables() {
    assert_eq!(tables(&page("docs/configuration.md"), "variable"), section("Environment", "Files"));
}

#[test]
fn isolation() {
    let table = tables(&readme(), "`isolation`");
    assert_eq!(tables(&page("docs/security.md"), "`isolation`"), table);
    let mut levels: Vec<String> = table.into_iter().map(|row| row[0].clone()).collect();
    levels.sort();
    let mut known: Vec<String> =
        Isolation::value_variants().iter().map(ToString::to_string).collect();
    known.sort();
    assert_eq!(levels, known);
}

#[test]
fn files_of_profiles_and_settings() {
    let [short] = blocks_of("README.md", "toml").try_into().unwrap();
    let [settings] = blocks_of("docs/configuration.md", "toml").try_into().unwrap();
    let [long, commands, network] = blocks_of("docs/profiles.md", "toml").try_into().unwrap();
    let [recipe] = blocks_of("docs/network.md", "toml").try_into().unwrap();
    let merged = [short, long, commands, network, recipe].map(|block| {
        merge(&[("built-in".to_owned(), BUILT_IN.to_owned()), (block.page, block.text)]).unwrap()
    });
    for merged in &merged[..2] {
        let packages = &merged.profiles["python"].recipe.debian().unwrap().packages;
        assert!(packages.contains(&"python3-pytest".to_owned()));
    }
    assert_eq!(merged[1].limits.max_active_vms, 8);
    assert_eq!(merged[2].profiles["calculator"].command.entrypoint, ["bc", "-q"]);
    assert_eq!(merged[3].profiles["web"].network.allow.len(), 2);
    assert_eq!(merged[4].profiles["ci"].network.allow.len(), 3);
    let show = "MAYFLY_BACKEND= MAYFLY_CONFIG=config.toml mayfly config show backend mem ttl";
    let shown = Shell::new("mock", None)
        .ok(&format!("cat > config.toml << 'END'\n{}\nEND\n{show}", settings.text));
    assert_eq!(shown.matches(" config.toml:").count(), 3, "{shown}");
}
