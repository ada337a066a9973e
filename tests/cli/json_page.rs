//! docs/json.md, compared with what every verb prints: no field is missing, none is undocumented, each has its type.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::answer::Answer;
use crate::support::environment::Environment;

/// What the page says.
struct Page {
    /// What each verb prints.
    verbs: BTreeMap<String, String>,
    /// The types of each object's fields.
    objects: BTreeMap<String, BTreeMap<String, String>>,
}

impl Page {
    fn read() -> Page {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
        let text = fs::read_to_string(path).unwrap();
        let (rules, objects) = text.split_once("\n## Objects\n").unwrap();
        let rows = |text: &str| -> Vec<[String; 2]> {
            let rows = text.lines().filter(|line| line.starts_with("| `"));
            let cells = rows.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>());
            cells
                .map(|cells| {
                    [cells[0].replace(['|', '`'], "").trim().to_owned(), unlinked(&cells[1])]
                })
                .collect()
        };
        let objects = objects.split("\n### ").skip(1).map(|section| {
            let title = section.lines().next().unwrap().to_owned();
            (title, rows(section).into_iter().map(<(String, String)>::from).collect())
        });
        let verbs = rows(rules).into_iter().map(<(String, String)>::from);
        Page { verbs: verbs.collect(), objects: objects.collect() }
    }

    /// Compares a value with a type of the page.
    #[track_caller]
    fn check(&self, value: &Value, of_type: &str, at: &str) {
        let of_type = of_type.trim_end_matches(", or missing");
        let (nullable, of_type) = match of_type.strip_suffix(", or null") {
            Some(of_type) => (true, of_type),
            None => (false, of_type),
        };
        let is_right = match (of_type, value) {
            (_, Value::Null) => nullable || of_type == "any",
            ("string", value) => value.is_string(),
            ("boolean", value) => value.is_boolean(),
            ("integer", value) => value.is_u64(),
            ("number", value) => value.is_number(),
            ("any", _) => true,
            (of_type, value) => {
                if let Some(items) = of_type.strip_prefix("array of ") {
                    let all = value.as_array().unwrap_or_else(|| panic!("{at} is {value}"));
                    all.iter().for_each(|item| self.check(item, items, &format!("{at}[]")));
                } else if let Some(values) = of_type.strip_prefix("object of ") {
                    let all = value.as_object().unwrap_or_else(|| panic!("{at} is {value}"));
                    all.iter()
                        .for_each(|(key, item)| self.check(item, values, &format!("{at}.{key}")));
                } else {
                    self.check_object(value, of_type, at);
                }
                true
            }
        };
        assert!(is_right, "{at} should be {of_type}, and is {value}");
    }

    #[track_caller]
    fn check_object(&self, value: &Value, title: &str, at: &str) {
        let documented =
            self.objects.get(title).unwrap_or_else(|| panic!("no object {title:?} on the page"));
        let fields = value.as_object().unwrap_or_else(|| panic!("{at} is {value}"));
        for (name, field) in fields {
            let of_type = documented
                .get(name)
                .unwrap_or_else(|| panic!("{name} of {at} is not documented as one of {title}"));
            self.check(field, of_type, &format!("{at}.{name}"));
        }
        for (name, of_type) in documented {
            let is_there = fields.contains_key(name) || of_type.ends_with(", or missing");
            assert!(is_there, "{name} of {title} is missing in {at}: {value}");
        }
    }

    /// Compares what a verb printed with a type that the page says it prints; `each` if it prints a line for each.
    #[track_caller]
    fn holds(&self, answer: &Answer, verb: &str, of_type: &str) {
        let row = self.verbs.get(verb).unwrap_or_else(|| panic!("no row for {verb:?}"));
        assert!(row.contains(of_type), "{verb} prints {row:?} and not {of_type:?}");
        let lines = answer.json_lines();
        assert!(!lines.is_empty(), "nothing is printed: {answer}");
        match of_type.strip_suffix(" for each") {
            Some(of_type) => lines.iter().for_each(|line| self.check(line, of_type, verb)),
            None => {
                assert_eq!(lines.len(), 1, "one line: {answer}");
                self.check(&lines[0], of_type, verb);
            }
        }
        for line in answer.stderr().lines() {
            let error: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{answer}"));
            self.check(&error["error"], "Error", "error");
        }
    }
}

/// Without links: `[VM](#vm)` is `VM`.
fn unlinked(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell.trim_end_matches(" |");
    while let Some((before, after)) = rest.split_once('[') {
        let (title, after) = after.split_once("](").unwrap();
        text += before;
        text += title;
        rest = after.split_once(')').unwrap().1;
    }
    text + rest
}

/// The verbs that print something, such as "image ls".
fn verbs() -> BTreeSet<String> {
    fn walk(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        let shown = command.get_subcommands().filter(|sub| sub.get_name() != "help");
        for sub in shown {
            let path = format!("{path} {}", sub.get_name()).trim().to_owned();
            if sub.has_subcommands() {
                walk(sub, &path, found);
            } else {
                found.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&mayfly::cli::command(), "", &mut found);
    found
}

#[test]
fn every_verb_has_a_row() {
    let rows: BTreeSet<String> = Page::read().verbs.keys().cloned().collect();
    assert_eq!(rows, verbs());
}

/// The words of a command line with `--json`.
fn words(line: &str) -> Vec<&str> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    std::iter::once(verb).chain(["--json"]).chain(rest.split_whitespace()).collect()
}

#[test]
fn every_verb_prints_what_the_page_says() {
    let page = Page::read();
    let env = Environment::mock();
    env.file("notes", "hello\n");
    env.start(&["--name", "web", "--label", "a=b", "--keep"]);
    for (line, verb, of_type) in [
        ("doctor", "doctor", "Host"),
        ("profiles", "profiles", "array of Profile"),
        ("config show", "config show", "array of Setting"),
        ("config path", "config path", "Path"),
        ("create --name box", "create", "VM"),
        ("start box", "start", "VM for each"),
        ("status", "status", "array of VM"),
        ("status web box nope", "status", "VM for each"),
        ("inspect web box nope", "inspect", "Inspection for each"),
        ("port web", "port", "array of Port"),
        ("extend box 20m", "extend", "VM for each"),
        ("rename box db", "rename", "VM"),
        ("cp notes web:", "cp", "Copy"),
        ("exec web -- true", "exec", "Command"),
        ("exec web --timeout 100ms -- sleep 60", "exec", "Command"),
        ("exec web -- nonsense", "exec", "Command"),
        ("exec --all --label a -- true", "exec", "Command"),
        ("run -- false", "run", "Command"),
        ("wait --for started web db", "wait", "Wait for each"),
        ("wait --for started --all", "wait", "array of Wait"),
        ("logs web", "logs", "Log"),
        ("df", "df", "DiskUse"),
        ("start --all", "start", "array of VM"),
        ("extend --label a 20m", "extend", "array of VM"),
        ("stop db nope", "stop", "VM for each"),
        ("stop --all", "stop", "array of VM"),
        ("stop --all", "stop", "array of VM"),
        ("inspect db", "inspect", "Inspection for each"),
        ("rm -f db nope", "rm", "Removal for each"),
        ("rm --all", "rm", "array of Removal"),
        ("rm --all", "rm", "array of Removal"),
        ("status", "status", "array of VM"),
        ("reap", "reap", "Reap"),
        ("reap --rebuild", "reap", "Reap"),
        ("image ls", "image ls", "array of Image"),
        ("image rm -f debian-git", "image rm", "Removal for each"),
        ("image prune", "image prune", "Prune"),
        ("template ls", "template ls", "array of Template"),
        ("template rm -f nope", "template rm", "Removal for each"),
        ("template rm --all", "template rm", "array of Removal"),
        ("pool fill -n 2", "pool fill", "VM for each"),
        ("pool ls", "pool ls", "array of VM"),
        ("pool drain", "pool drain", "array of Removal"),
    ] {
        page.holds(&env.run(&words(line)), verb, of_type);
    }
    for (line, verb, code) in [("completions bash", "completions", 2), ("shell web", "shell", 125)]
    {
        assert!(page.verbs[verb].starts_with("refuses `--json`"));
        page.check(&env.run(&words(line)).json_error(code), "Error", verb);
    }
    // What is reaped and pruned.
    let id = env.create(&[]);
    env.expire(&id);
    let templates = env.artifacts().join("templates/damaged-0123");
    fs::create_dir_all(&templates).unwrap();
    page.holds(&env.run(&words("template ls")), "template ls", "array of Template");
    fs::create_dir_all(env.artifacts().join(".build-old-1-0a1b2c3d")).unwrap();
    page.holds(&env.run(&words("df")), "df", "DiskUse");
    page.holds(&env.run(&words("reap --dry-run")), "reap", "Reap");
    page.holds(&env.run(&words("image prune --dry-run")), "image prune", "Prune");
    page.holds(&env.run(&words("reap")), "reap", "Reap");
    env.run(&["template", "rm", "--all"]).prints("");
}

#[test]
fn images_and_templates_are_what_the_page_says() {
    let page = Page::read();
    let mut env = Environment::qemu();
    env.keep_templates_apart();
    for (line, verb, of_type) in [
        ("image build", "image build", "Image"),
        ("image ls", "image ls", "array of Image"),
        ("template build", "template build", "Template"),
        ("template ls", "template ls", "array of Template"),
        ("create --name box", "create", "VM"),
        ("start box", "start", "VM for each"),
        ("inspect box", "inspect", "Inspection for each"),
        ("df", "df", "DiskUse"),
        ("rm box", "rm", "Removal for each"),
        ("template rm --all", "template rm", "array of Removal"),
        ("image prune --all", "image prune", "Prune"),
    ] {
        page.holds(&env.run(&words(line)), verb, of_type);
    }
}
