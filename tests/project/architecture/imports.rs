//! Which file of `src` imports from which, read from the source text.
//!
//! Code that only tests compile is left out, and so are comments. A name that a file only passes on
//! (`pub use`) is counted for the file that defines it, and passing it on is no import.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module: the parts of its path below `crate`.
pub type Module = Vec<String>;

/// One leaf of a `use` declaration.
struct Import {
    path: Vec<String>,
    /// What it is called in this file.
    name: String,
    passed_on: bool,
}

/// One file.
struct Source {
    imports: Vec<Import>,
    /// Paths in expressions and signatures, such as `super::lock::wait_for`.
    paths: Vec<Vec<String>>,
}

/// All files of `src` but the two programs'.
pub struct SourceTree {
    files: BTreeMap<Module, Source>,
}

impl SourceTree {
    pub fn read(src: &Path) -> SourceTree {
        let mut files = BTreeMap::new();
        for path in super::sources(src) {
            let inside = path.strip_prefix(src).unwrap().with_extension("");
            let mut module: Module =
                inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if module.last().unwrap() == "mod" {
                module.pop();
            }
            let is_test = module.iter().any(|part| part == "tests" || part.ends_with("_tests"));
            if !is_test && !["lib", "main", "bin"].contains(&module[0].as_str()) {
                files.insert(module, Source::parse(&fs::read_to_string(&path).unwrap()));
            }
        }
        SourceTree { files }
    }

    /// The modules that each module imports from. What a module passes on is its own import only with
    /// `passed_on`; without, it is looked for where it is defined.
    pub fn arrows(&self, passed_on: bool) -> BTreeMap<Module, BTreeSet<Module>> {
        let of_file = |(module, source): (&Module, &Source)| {
            let imports = source.imports.iter().filter(|import| passed_on || !import.passed_on);
            let paths = imports.map(|import| &import.path).chain(&source.paths);
            let others = paths.filter_map(|path| {
                let path = self.absolute(module, path)?;
                if passed_on { self.module_of(&path) } else { self.resolve(&path, 0) }
            });
            (module.clone(), others.filter(|other| other != module).collect())
        };
        self.files.iter().map(of_file).collect()
    }

    /// The module that an absolute path names, or names something in.
    fn module_of(&self, path: &[String]) -> Option<Module> {
        let longest = (1..=path.len()).rev().find(|end| self.files.contains_key(&path[..*end]))?;
        Some(path[..longest].to_vec())
    }

    /// A path as it is written in `module`, from `crate` on; `None` where it leads out of the crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let joined = |base: &[String], rest: &[String]| [base, rest].concat();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some(joined(module, &path[1..])),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                Some(joined(&module[..module.len().checked_sub(up)?], &path[up..]))
            }
            first => {
                let mut child = module.clone();
                child.push(first.to_owned());
                self.files.contains_key(&child).then(|| joined(module, path))
            }
        }
    }

    /// The module that defines what is at an absolute path.
    fn resolve(&self, path: &[String], depth: usize) -> Option<Module> {
        assert!(depth < 20, "{path:?} is passed on in a circle");
        let module = self.module_of(path)?;
        let rest = &path[module.len()..];
        let Some(name) = rest.first() else { return Some(module) };
        let import = self.files[&module].imports.iter().find(|import| import.name == *name);
        match import.and_then(|import| self.absolute(&module, &import.path)) {
            Some(target) => self.resolve(&[&target[..], &rest[1..]].concat(), depth + 1),
            None => Some(module),
        }
    }
}

impl Source {
    fn parse(text: &str) -> Source {
        let words = words(text);
        let (mut imports, mut paths) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < words.len() {
            if words[at] == "use" {
                // Visible to more than this file: `pub use`, `pub(super) use`.
                let passed_on = at > 0 && ["pub", ")"].contains(&words[at - 1].as_str());
                at = leaves(&words, at + 1, Vec::new(), passed_on, &mut imports);
            } else if words.get(at + 1).is_some_and(|word| word == "::") {
                let mut path = vec![words[at].clone()];
                while words.get(at + 1).is_some_and(|word| word == "::") {
                    path.extend(words.get(at + 2).cloned());
                    at += 2;
                }
                paths.push(path);
            }
            at += 1;
        }
        Source { imports, paths }
    }
}

/// Collects the leaves of the tree that begins at `at`, below `path`. Returns where it ends.
fn leaves(
    words: &[String],
    mut at: usize,
    mut path: Vec<String>,
    passed_on: bool,
    imports: &mut Vec<Import>,
) -> usize {
    loop {
        match words[at].as_str() {
            "{" => {
                while words[at] != "}" {
                    at = leaves(words, at + 1, path.clone(), passed_on, imports);
                }
                return at + 1;
            }
            "::" => at += 1,
            "," | "}" | ";" | "as" => break,
            part => {
                path.push(part.to_owned());
                at += 1;
            }
        }
    }
    if path.last().is_some_and(|part| part == "self") {
        path.pop();
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if words[at] == "as" {
        name = words[at + 1].clone();
        at += 2;
    }
    if !path.is_empty() {
        imports.push(Import { path, name, passed_on });
    }
    at
}

/// The words and signs of the code that is compiled into the programs.
fn words(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut words = Vec::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap();
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match rest {
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                _ if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            if !first.is_whitespace() {
                words.push(rest[..length].to_owned());
            }
            rest = &rest[length..];
        }
    }
    words
}

#[test]
fn imports_are_found_wherever_they_are_written() {
    let source = Source::parse(
        "use crate::{host::lock, model::{self, Refusal as No}};\n\
         pub(super) use entry::TarEntry; // use crate::cli;\n\
         fn f() -> super::Wait { lock::take() }\n\
         #[cfg(test)]\nmod tests { use crate::agent; }",
    );
    let imports: Vec<_> = source
        .imports
        .iter()
        .map(|import| (import.path.join("::"), import.name.as_str(), import.passed_on))
        .collect();
    assert_eq!(
        imports,
        [
            ("crate::host::lock".to_owned(), "lock", false),
            ("crate::model".to_owned(), "model", false),
            ("crate::model::Refusal".to_owned(), "No", false),
            ("entry::TarEntry".to_owned(), "TarEntry", true),
        ]
    );
    assert_eq!(source.paths, [vec!["super", "Wait"], vec!["lock", "take"]]);
}
