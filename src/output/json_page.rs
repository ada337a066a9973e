//! docs/json.md, generated from the types that `--json` prints. The test fails if the page is stale; with
//! `MAYFLY_BLESS=1` (`make generate`) it rewrites the page. `tests/cli/json_page` compares the page with what verbs
//! print.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use super::{
    CopyView, DiskUseView, ErrorReport, ExecAnswer, ImageView, InspectionView, LogView,
    NetworkEntryView, PathView, PortView, ProfileView, PruneView, ReapView, RemovalView,
    SettingView, TemplateView, VmView, WaitView,
};
use crate::lifecycle::HostDiagnosis;

/// Verbs in the order of the help, and what they print. A word in brackets is an object.
const VERBS: [(&str, &str); 34] = [
    ("run", "[Command]"),
    ("create", "[VM]"),
    ("start", "[VM] for each; with `--all` an array of [VM]"),
    ("exec", "[Command]; with `--all` for each VM, as the commands end"),
    ("shell", "refuses `--json`: a screen is not data"),
    ("cp", "[Copy]"),
    ("stop", "[VM] for each; with `--all` an array of [VM]"),
    ("rm", "[Removal] for each; with `--all` an array of [Removal]"),
    (
        "logs",
        "[Log]; with `--net` an array of [NetworkEntry]; refuses `--json` with `-f` and `--raw`",
    ),
    ("wait", "[Wait] for each; with `--all` an array of [Wait]"),
    ("extend", "[VM] for each; with `--all` an array of [VM]"),
    ("rename", "[VM]"),
    ("status", "array of [VM], with `--watch` again and again; [VM] for each that is named"),
    ("inspect", "[Inspection] for each"),
    ("port", "array of [Port]"),
    ("df", "[DiskUse]"),
    ("reap", "[Reap]"),
    ("profiles", "array of [Profile]"),
    ("config show", "array of [Setting]"),
    ("config path", "[Path]"),
    ("image build", "[Image]"),
    ("image pull", "[Image]"),
    ("image import", "[Image]"),
    ("image ls", "array of [Image]"),
    ("image rm", "[Removal] for each"),
    ("image prune", "[Prune]"),
    ("template build", "[Template]"),
    ("template ls", "array of [Template]"),
    ("template rm", "[Removal] for each; with `--all` an array of [Removal]"),
    ("pool fill", "[VM] for each that was started"),
    ("pool ls", "array of [VM]"),
    ("pool drain", "array of [Removal]"),
    ("doctor", "[Host]"),
    ("completions", "refuses `--json`: a shell's script is not data"),
];

const RULES: &str = "\
# JSON

<!-- `make generate` writes this page from the types in src/output. tests/cli/json_page compares it with what verbs print. -->

With `--json`, verbs print this on standard output:

- Things that are named on the command line: an object for each, on a line of its own, as soon as it is done.
- Lists, and what `--all`, `--label` or `--filter` selects: one array on one line. It is empty if there is nothing to list
  or to do.
- Anything else: one object on one line.

Only `exec --all` prints an object on a line for each VM instead, as the commands end, because they may take long.

An error is one object on a line of standard error, [Error](#error) in the field `error`:

```json
{\"error\":{\"kind\":\"not_found\",\"message\":\"no VM \\\"box\\\"\",\"hint\":\"'mayfly status' lists all VMs\",\"exit_code\":3}}
```

A verb that is given several things goes on after an error, so there may be several such lines. Other lines of standard
error begin with `mayfly:`; they are notes, which `-q` turns off.

The same thing has the same name everywhere. Every field is always there, `null` if it has no value, unless its type says
that it may be missing. Names that end in `_at` are times in Unix seconds. `bytes` is what something takes on the disk;
its length, holes included, is `apparent_bytes`. More fields may be added.

## Verbs

| verb | prints |
|---|---|
";

/// The heading of an object, from its type's name.
fn title(name: &str) -> String {
    match name {
        "VmView" => "VM".into(),
        "ExecAnswer" => "Command".into(),
        "ErrorReport" => "Error".into(),
        "HostDiagnosis" => "Host".into(),
        "HostCheck" => "Check".into(),
        name => name.trim_end_matches("View").into(),
    }
}

fn link(title: &str) -> String {
    format!("[{title}](#{})", title.to_lowercase())
}

fn linked(text: &str) -> String {
    let parts = text.split(['[', ']']).enumerate();
    parts.map(|(at, part)| if at % 2 == 0 { part.to_owned() } else { link(part) }).collect()
}

/// Registers a type, and everything in it.
fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

fn definitions() -> BTreeMap<String, Value> {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let all = [
        add::<VmView>,
        add::<ExecAnswer<'static>>,
        add::<ErrorReport>,
        add::<RemovalView>,
        add::<ReapView>,
        add::<PruneView>,
        add::<WaitView>,
        add::<CopyView>,
        add::<LogView>,
        add::<NetworkEntryView>,
        add::<ProfileView>,
        add::<ImageView>,
        add::<TemplateView>,
        add::<SettingView>,
        add::<PathView>,
        add::<HostDiagnosis>,
        add::<InspectionView>,
        add::<DiskUseView>,
        add::<PortView>,
    ];
    all.iter().for_each(|add| add(&mut generator));
    generator.take_definitions(true).into_iter().collect()
}

/// The definition that a schema refers to, by name.
fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

fn text(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The values of an enumeration, if it is one.
fn values(schema: &Value) -> Option<Vec<&str>> {
    let parts = schema["oneOf"].as_array().into_iter().flatten().chain([schema]);
    let values = parts.flat_map(|part| {
        let listed = part["enum"].as_array().into_iter().flatten();
        listed.chain(part.get("const")).filter_map(Value::as_str)
    });
    Some(values.collect()).filter(|values: &Vec<&str>| !values.is_empty())
}

/// What a value can be, in words.
fn type_of(schema: &Value, all: &BTreeMap<String, Value>) -> String {
    if let Some(name) = referred(schema) {
        return if all[name]["properties"].is_object() {
            link(&title(name))
        } else {
            "string".into()
        };
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().map(|one| type_of(one, all)).collect::<Vec<_>>().join(" or ");
    }
    let simple = |name: &str| match name {
        "array" => format!("array of {}", type_of(&schema["items"], all)),
        "object" => format!("object of {}", type_of(&schema["additionalProperties"], all)),
        name => name.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => simple(name),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).map(simple).collect::<Vec<_>>().join(" or ")
        }
        _ => "any".into(),
    }
}

fn meaning(schema: &Value, all: &BTreeMap<String, Value>) -> String {
    let any = schema["anyOf"].as_array().into_iter().flatten();
    let enumeration = std::iter::once(schema)
        .chain(any)
        .filter_map(|schema| values(&all[referred(schema)?]))
        .map(|values| values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>())
        .find_map(|values| {
            let (last, others) = values.split_last()?;
            Some(format!("{} or {last}", others.join(", ")))
        });
    let text = text(schema);
    match enumeration {
        Some(values) if text.is_empty() => values,
        Some(values) => format!("{text} {values}"),
        None => text,
    }
}

/// An object's fields: those that may be missing, then the others in their order.
fn fields(schema: &Value) -> Vec<(&str, bool)> {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().expect("an object");
    let names = properties.keys().map(String::as_str);
    let optional = names.filter(|name| !required.contains(name)).map(|name| (name, true));
    optional.chain(required.iter().map(|name| (*name, false))).collect()
}

fn page() -> String {
    let all = definitions();
    let mut page = RULES.to_owned();
    for (verb, prints) in VERBS {
        page += &format!("| `{verb}` | {} |\n", linked(prints));
    }
    page += "\n## Objects\n";
    let objects: BTreeMap<String, &Value> = all
        .iter()
        .filter(|(_, schema)| schema["properties"].is_object())
        .map(|(name, schema)| (title(name), schema))
        .collect();
    for (title, schema) in objects {
        page += &format!(
            "\n### {title}\n\n{}\n\n| field | type | meaning |\n|---|---|---|\n",
            text(schema)
        );
        for (name, may_be_missing) in fields(schema) {
            let field = &schema["properties"][name];
            let kind = type_of(field, &all);
            let kind = match kind.strip_suffix(" or null") {
                Some(kind) if may_be_missing => format!("{kind}, or missing"),
                Some(kind) => format!("{kind}, or null"),
                None => kind,
            };
            page += &format!("| `{name}` | {kind} | {} |\n", meaning(field, &all));
        }
    }
    page
}

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let page = page();
    let is_right = fs::read_to_string(&path).is_ok_and(|found| found == page);
    if !is_right && std::env::var_os("MAYFLY_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, page).unwrap();
        return;
    }
    assert!(is_right, "docs/json.md is stale: run 'make generate'");
}
