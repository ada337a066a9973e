//! Parses the subset of Markdown that the documentation uses.

use std::fs;
use std::path::Path;

/// A fenced block.
#[derive(Debug, Clone)]
pub struct Block {
    pub language: String,
    pub text: String,
    /// Its page, for messages.
    pub page: String,
    /// The line of its opening fence, for messages.
    pub line: usize,
}

/// Reads a page.
pub fn page(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads the README.
pub fn readme() -> String {
    page("README.md")
}

/// The paths of the README and of all pages in docs.
pub fn pages() -> Vec<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let names = fs::read_dir(docs).unwrap().map(|entry| entry.unwrap().file_name());
    let mut pages: Vec<String> = names
        .map(|name| format!("docs/{}", name.to_str().unwrap()))
        .filter(|path| path.ends_with(".md"))
        .collect();
    assert!(!pages.is_empty(), "docs has no page");
    pages.push("README.md".into());
    pages.sort();
    pages
}

/// The fenced blocks of a page, in order.
pub fn blocks(path: &str) -> Vec<Block> {
    let text = page(path);
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(language) if !inside => {
                inside = true;
                let language = language.to_owned();
                blocks.push(Block {
                    language,
                    text: String::new(),
                    page: path.to_owned(),
                    line: number + 1,
                });
            }
            Some(_) => inside = false,
            None if inside => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!inside, "a block of {path} has no end");
    blocks
}

/// The rows, without backticks, of every table whose first column has this title.
pub fn tables(text: &str, title: &str) -> Vec<Vec<String>> {
    let head = format!("| {title} |");
    let mut rows = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with(&head) {
            let table = lines.by_ref().skip(1).take_while(|line| line.starts_with('|'));
            rows.extend(table.map(|row| {
                row.trim_matches('|')
                    .split('|')
                    .map(|cell| cell.replace('`', "").trim().to_owned())
                    .collect()
            }));
        }
    }
    assert!(!rows.is_empty(), "no table of {title}");
    rows
}

/// Whether a printed line matches the documented one, in which `…` stands for anything. The width of columns is
/// ignored.
pub fn matches(documented: &str, printed: &str) -> bool {
    let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (documented, printed) = (squeeze(documented), squeeze(printed));
    let mut parts = documented.split('…');
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let found = if last {
            rest.ends_with(part).then(|| rest.len() - part.len())
        } else {
            rest.find(part)
        };
        match found {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Panics unless the printed lines match the documented ones of the block.
pub fn compare(documented: &str, printed: &str, Block { page, line, .. }: &Block) {
    let same = documented.lines().count() == printed.lines().count()
        && documented.lines().zip(printed.lines()).all(|(wanted, found)| matches(wanted, found));
    assert!(same, "{page}, line {line}, documents\n{documented}\nbut this was printed:\n{printed}");
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(matches("a  b", "a b"));
    assert!(matches("Linux … x86_64 …", "Linux 6.1 #1 x86_64 GNU/Linux"));
    assert!(matches("12.…", "12.11"));
    assert!(matches("…", ""));
    assert!(!matches("a", "ab"));
    assert!(!matches("a … c", "a b cd"));
}
