//! Verbs of docker and similar programs, and the command lines of mayfly that do the same.

use std::ffi::OsString;

use super::shell_word::shell_word;

/// What to answer to a verb.
enum VerbAnswer {
    /// This line does the same. A last word in capitals stands for the words that were typed after the verb.
    Line(&'static str),
    /// Nothing does.
    Sentence(&'static str),
}

use VerbAnswer::{Line, Sentence};

const NO_REGISTRY: VerbAnswer = Sentence(
    "mayfly only pulls from registries, with 'mayfly image pull REF'; skopeo does the rest: 'skopeo login', \
     'skopeo copy', 'skopeo list-tags'",
);
const NO_SNAPSHOT: VerbAnswer =
    Sentence("a VM's disk cannot be saved; 'mayfly cp VM:PATH DIR' copies files out of it");
const NO_PAUSE: VerbAnswer = Sentence(
    "a VM cannot be paused; 'mayfly stop VM' keeps its disk, 'mayfly start VM' boots it again",
);

/// A group of verbs, words, and the answer to each of them. Only exact words lead to a verb that deletes.
const VERBS: &[(&str, &[&str], VerbAnswer)] = &[
    ("", &["list"], Line("mayfly status")),
    ("", &["show", "describe"], Line("mayfly inspect VM")),
    ("", &["delete", "del", "destroy", "remove", "erase"], Line("mayfly rm VM")),
    ("", &["kill", "terminate", "poweroff"], Line("mayfly stop --grace 0s VM")),
    ("", &["down", "halt", "shutdown"], Line("mayfly stop VM")),
    ("", &["up", "boot", "poweron"], Line("mayfly start VM")),
    ("", &["launch", "new", "init", "spawn", "make"], Line("mayfly create")),
    ("", &["restart", "reboot"], Sentence("'mayfly stop VM', then 'mayfly start VM'")),
    ("", &["ssh", "attach", "console", "enter", "connect", "sh", "bash"], Line("mayfly shell VM")),
    ("", &["scp", "copy", "rsync"], Line("mayfly cp SRC")),
    ("", &["mv", "name"], Line("mayfly rename VM")),
    ("", &["tail", "log", "dmesg"], Line("mayfly logs VM")),
    ("", &["top"], Line("mayfly exec --keep -t VM -- top")),
    ("", &["stats"], Line("mayfly exec --keep VM -- free -m")),
    ("", &["images"], Line("mayfly image ls")),
    ("", &["rmi"], Line("mayfly image rm PROFILE")),
    ("", &["build"], Line("mayfly image build PROFILE")),
    ("", &["import", "load"], Line("mayfly image import FILE")),
    ("", &["templates"], Line("mayfly template ls")),
    ("", &["prune", "gc", "clean", "cleanup", "purge"], Line("mayfly reap")),
    ("", &["info", "check", "status-all"], Line("mayfly doctor")),
    ("", &["version"], Line("mayfly --version")),
    ("", &["man"], Line("man mayfly")),
    ("", &["settings", "env"], Line("mayfly config show")),
    ("", &["pull"], Line("mayfly image pull REF")),
    ("", &["push", "login", "logout", "search", "tag", "manifest", "registry"], NO_REGISTRY),
    ("", &["save", "export", "commit", "snapshot", "checkpoint", "clone", "diff"], NO_SNAPSHOT),
    ("", &["pause", "unpause", "suspend", "resume", "freeze"], NO_PAUSE),
    (
        "",
        &["network", "net", "networks"],
        Sentence(
            "each VM has a network of its own: '--net egress' or '--allow HOST:PORT' of 'run' and 'create' opens it",
        ),
    ),
    ("", &["ports"], Line("mayfly port VM")),
    (
        "",
        &["expose", "publish", "forward", "port-forward"],
        Sentence("ports are published when a VM is made: mayfly create --publish 8080:80"),
    ),
    ("", &["du", "usage"], Line("mayfly df")),
    (
        "",
        &["system"],
        Sentence(
            "'mayfly df' shows what uses disk space, 'mayfly doctor' checks this host, 'mayfly reap' deletes what \
             crashes left behind",
        ),
    ),
    (
        "",
        &["volume", "volumes", "mount"],
        Sentence("VMs share no directories with the host; 'mayfly cp DIR VM:PATH' copies one"),
    ),
    (
        "",
        &["container", "containers", "vm", "machine", "box"],
        Sentence("leave that word out: 'mayfly status' lists VMs"),
    ),
    (
        "",
        &["history", "events"],
        Sentence("mayfly keeps no history; 'mayfly status' lists VMs, 'mayfly image ls' images"),
    ),
    (
        "",
        &["update", "set", "resize"],
        Sentence(
            "a VM keeps the size it was created with; 'mayfly extend VM DURATION' gives it more time",
        ),
    ),
    (
        "",
        &["compose", "swarm", "service", "stack", "pod", "context", "plugin", "secret", "buildx"],
        Sentence("mayfly has nothing like that; 'mayfly --help' lists what it can do"),
    ),
    ("image", &["list", "show", "inspect", "images", "ps", "history"], Line("mayfly image ls")),
    ("image", &["delete", "del", "destroy", "remove", "rmi"], Line("mayfly image rm PROFILE")),
    (
        "image",
        &["create", "make", "rebuild", "update", "upgrade"],
        Line("mayfly image build PROFILE"),
    ),
    ("image", &["load", "add"], Line("mayfly image import FILE")),
    ("image", &["gc", "clean", "cleanup", "purge"], Line("mayfly image prune")),
    ("image", &["push", "tag", "search"], NO_REGISTRY),
    (
        "image",
        &["save", "export"],
        Sentence("images stay on this host; 'mayfly image build PROFILE' builds one anywhere"),
    ),
    ("template", &["list", "show", "inspect", "ps"], Line("mayfly template ls")),
    ("template", &["delete", "del", "destroy", "remove"], Line("mayfly template rm TEMPLATE")),
    ("template", &["create", "make", "rebuild"], Line("mayfly template build")),
    (
        "template",
        &["prune", "gc", "clean", "cleanup", "purge"],
        Sentence("'mayfly reap' deletes templates that have not been used for long"),
    ),
    (
        "config",
        &["get", "list", "ls", "view", "cat", "print", "dump", "check"],
        Line("mayfly config show KEY"),
    ),
    ("config", &["where", "file", "files"], Line("mayfly config path")),
    (
        "config",
        &["set", "edit", "unset", "add", "rm", "delete", "init", "reset"],
        Sentence("settings are changed with an editor: ${EDITOR:-vi} \"$(mayfly config path)\""),
    ),
];

/// The answer to an unknown verb of a group, which is empty for mayfly itself, and the words typed after it.
pub(super) fn about_verb(group: &str, word: &str, after: &[OsString]) -> Option<String> {
    let answers = |of: &str, words: &[&str]| of == group && words.contains(&word);
    let (.., answer) = VERBS.iter().find(|(of, words, _)| answers(of, words))?;
    Some(match answer {
        Sentence(sentence) => (*sentence).to_owned(),
        Line(line) => format!("mayfly calls that '{}'", filled(line, after)),
    })
}

/// A line with the words that were typed instead of the one in capitals. Flags of another program mean something else.
fn filled(line: &str, after: &[OsString]) -> String {
    let typed: Option<Vec<&str>> = after.iter().map(|word| word.to_str()).collect();
    let typed = typed.filter(|words| words.iter().all(|word| !word.starts_with('-')));
    let typed: Vec<String> = typed.iter().flatten().map(|word| shell_word(word)).collect();
    let is_place = |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
    match line.split(' ').find(is_place) {
        Some("KEY") if typed.is_empty() => line.replace(" KEY", ""),
        Some(place) if !typed.is_empty() => line.replace(place, &typed.join(" ")),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_has_two_answers() {
        for (number, (group, words, _)) in VERBS.iter().enumerate() {
            for (other, others, _) in &VERBS[..number] {
                let twice = words.iter().find(|word| other == group && others.contains(word));
                assert_eq!(twice, None, "{group}");
            }
        }
    }

    #[test]
    fn typed_words_are_part_of_the_line() {
        let about = |words: &[&str]| {
            let after: Vec<OsString> = words[1..].iter().map(OsString::from).collect();
            about_verb("", words[0], &after).unwrap()
        };
        assert_eq!(about(&["rmi", "a", "b c"]), "mayfly calls that 'mayfly image rm a 'b c''");
        assert_eq!(about(&["rmi"]), "mayfly calls that 'mayfly image rm PROFILE'");
        assert_eq!(about(&["rmi", "-f", "a"]), "mayfly calls that 'mayfly image rm PROFILE'");
        assert_eq!(about(&["top", "box"]), "mayfly calls that 'mayfly exec --keep -t box -- top'");
        assert_eq!(about_verb("template", "ls", &[]), None);
    }
}
