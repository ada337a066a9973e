//! Tables that fit the terminal: text is wrapped, names are shortened, and the least important columns are left
//! out.

use std::collections::BTreeSet;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::color::{StreamColor, TextTone};

/// What is done with a column's cells when there is no room for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellFit {
    /// Nothing: an id, a number or a keyword.
    Whole,
    /// As `Whole`, and left out if every cell is a dash.
    Sparse,
    /// As `Whole`, and aligned to the right.
    Number,
    /// Replaces the middle by an ellipsis.
    Name,
    /// Wraps it between words.
    Text,
}

/// The columns of a table, and those that are left out on a narrow terminal.
#[derive(Debug, Clone, Copy)]
pub struct TableShape<const N: usize> {
    pub columns: [(&'static str, CellFit); N],
    /// Titles of columns that are left out rather than squeezing the others, the least important first.
    pub optional: &'static [&'static str],
    /// Titles of columns that are left out only when squeezing is not enough.
    pub important: &'static [&'static str],
}

/// A cell's text, without line breaks and escaped, and its colour.
#[derive(Debug, Clone, Default)]
pub struct TableCell {
    pub text: String,
    pub tone: Option<TextTone>,
}

impl<T: Into<String>> From<T> for TableCell {
    fn from(text: T) -> TableCell {
        // A tab would move what follows it.
        TableCell { text: text.into().replace('\t', " "), tone: None }
    }
}

/// Where a table is printed.
#[derive(Debug, Clone, Copy)]
pub struct TableLayout {
    /// The terminal's width; `None` for files and pipes, in which nothing is shortened, wrapped or left out.
    pub width: Option<usize>,
    pub paint: StreamColor,
}

/// Spaces between two columns: as in `docker ps` and `kubectl get`, which suits `awk`.
const GAP: usize = 2;

/// The widths of a column, each at most the one before: of its longest cell, still comfortable to read, hardly
/// readable, and the least of all.
type ColumnWidths = [usize; 4];

/// The second to fourth of [`ColumnWidths`] for names and for text.
const NAME_WIDTHS: [usize; 3] = [20, 8, 8];
const TEXT_WIDTHS: [usize; 3] = [24, 16, 8];

/// Where a word that is wider than its column is broken.
const SEPARATORS: [char; 5] = ['/', ',', ':', '=', '-'];

struct ShownColumn {
    /// Its place in the shape.
    at: usize,
    fit: CellFit,
    widths: ColumnWidths,
    width: usize,
    cells: Vec<Vec<String>>,
}

impl TableLayout {
    /// The table's rows, the titles first. A row can have several lines.
    pub fn rows<const N: usize>(
        self,
        shape: &TableShape<N>,
        rows: &[[TableCell; N]],
    ) -> Vec<String> {
        let mut shown: Vec<ShownColumn> =
            shape.columns.iter().enumerate().map(measured(rows)).collect();
        shown.retain(|column| {
            column.fit != CellFit::Sparse || rows.iter().any(|row| row[column.at].text != "-")
        });
        self.fit(shape, &mut shown);
        for column in &mut shown {
            let texts: Vec<&str> = rows.iter().map(|row| &*row[column.at].text).collect();
            let title = vec![shape.columns[column.at].0.to_owned()];
            column.cells = std::iter::once(title).chain(fitted(column, &texts)).collect();
            let lines = column.cells.iter().flatten().map(|line| line.width());
            column.width = lines.max().unwrap_or(0);
        }
        let tone = |row: usize, column: usize| rows.get(row.wrapping_sub(1))?[column].tone;
        let mut lines = aligned(&shown).into_iter();
        let painted_row = |row: usize| {
            let height = shown.iter().map(|column| column.cells[row].len()).max().unwrap_or(0);
            let lines = lines.by_ref().take(height).enumerate();
            let painted = lines.map(|(number, line)| {
                self.painted(&line, &shown, (row, number), |column| tone(row, column))
            });
            painted.collect::<Vec<_>>().join("\n")
        };
        (0..=rows.len()).map(painted_row).collect()
    }

    /// Text below a table, wrapped to its width.
    pub fn text(self, text: &str) -> String {
        self.width.map_or_else(|| text.to_owned(), |width| wrapped(text, width).join("\n"))
    }

    /// Leaves columns out until the others fit, and sets their widths.
    fn fit<const N: usize>(self, shape: &TableShape<N>, shown: &mut Vec<ShownColumn>) {
        let needed = |shown: &[ShownColumn], level: usize| {
            shown.iter().map(|column| column.widths[level] + GAP).sum::<usize>() - GAP
        };
        let fits = |needed: usize| self.width.is_none_or(|width| needed <= width);
        for (level, titles) in [(1, shape.optional), (2, shape.important)] {
            for title in titles {
                if !fits(needed(shown, level)) {
                    shown.retain(|column| shape.columns[column.at].0 != *title);
                }
            }
        }
        while shown.len() > 1 && !fits(needed(shown, 3)) {
            shown.pop();
        }
        let level = (0..3).find(|&level| fits(needed(shown, level))).unwrap_or(3);
        shown.iter_mut().for_each(|column| column.width = column.widths[level]);
        // The narrowest of those that are squeezed gets the next free column of the terminal.
        let spare = self.width.map_or(0, |width| width.saturating_sub(needed(shown, level)));
        for _ in 0..spare {
            let squeezed = shown.iter_mut().filter(|column| column.width < column.widths[0]);
            let Some(column) = squeezed.min_by_key(|column| column.width) else { break };
            column.width += 1;
        }
    }

    /// Colours the parts of a line of a row. A table's layout has no colours.
    fn painted(
        self,
        line: &str,
        shown: &[ShownColumn],
        (row, number): (usize, usize),
        tone: impl Fn(usize) -> Option<TextTone>,
    ) -> String {
        let (mut text, mut painted, mut begin) = (String::new(), 0, 0);
        for column in shown {
            let part = column.cells[row].get(number).map_or("", String::as_str);
            let free = column.width - part.width();
            let at = if column.fit == CellFit::Number { begin + free } else { begin };
            if let Some(tone) = tone(column.at).filter(|_| !part.is_empty()) {
                text.push_str(&line[painted..at]);
                text.push_str(&self.paint.paint(tone, part));
                painted = at + part.len();
            }
            begin += part.len() + free + GAP;
        }
        text.push_str(&line[painted..]);
        text
    }
}

/// The lines of all rows, with their columns below each other.
fn aligned(shown: &[ShownColumn]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let rows = 0..shown.first().map_or(0, |column| column.cells.len());
    let row = |row: usize| shown.iter().map(move |column| column.cells[row].join("\n"));
    table.add_rows(rows.map(|number| row(number).collect::<Vec<_>>()));
    for (place, column) in table.column_iter_mut().zip(shown) {
        if column.fit == CellFit::Number {
            place.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

fn measured<const N: usize>(
    rows: &[[TableCell; N]],
) -> impl Fn((usize, &(&'static str, CellFit))) -> ShownColumn {
    move |(at, &(title, fit))| {
        let texts = rows.iter().map(|row| &*row[at].text);
        let widest =
            texts.clone().map(UnicodeWidthStr::width).max().unwrap_or(0).max(title.width());
        let squeezed = |to: [usize; 3], least: usize| {
            let [comfortable, little, least_of_all] =
                to.map(|to| to.max(title.width()).min(widest));
            [widest, comfortable, little.min(least), least_of_all.min(least)]
        };
        let widths = match fit {
            CellFit::Whole | CellFit::Sparse | CellFit::Number => [widest; 4],
            CellFit::Name => squeezed(NAME_WIDTHS, widest),
            CellFit::Text => {
                let words = texts.flat_map(|text| text.split(' '));
                let parts = words.flat_map(|word| word.split_inclusive(SEPARATORS));
                let longest = parts.map(UnicodeWidthStr::width).max().unwrap_or(0);
                squeezed(TEXT_WIDTHS, longest.max(title.width()))
            }
        };
        ShownColumn { at, fit, widths, width: 0, cells: Vec::new() }
    }
}

/// The lines of each cell, in its column's width.
fn fitted(column: &ShownColumn, texts: &[&str]) -> Vec<Vec<String>> {
    let is_squeezed = column.width < column.widths[0];
    match column.fit {
        CellFit::Text if is_squeezed => {
            texts.iter().map(|text| wrapped(text, column.width)).collect()
        }
        CellFit::Name if is_squeezed => {
            shortened(texts, column.width).into_iter().map(|name| vec![name]).collect()
        }
        _ => texts.iter().map(|text| vec![(*text).to_owned()]).collect(),
    }
}

/// Shortens names, in the middle unless that makes different ones look the same.
fn shortened(names: &[&str], width: usize) -> Vec<String> {
    let different = names.iter().collect::<BTreeSet<_>>().len();
    let room = width.saturating_sub(1);
    let with_end = |end: usize| -> Vec<String> {
        names.iter().map(|name| ellipsis(name, room - end, end, width)).collect()
    };
    let mut ways = [room / 2, 0, room].map(with_end).into_iter();
    let usual = ways.next().unwrap_or_default();
    let is_clear = |names: &Vec<String>| names.iter().collect::<BTreeSet<_>>().len() == different;
    if is_clear(&usual) { usual } else { ways.find(is_clear).unwrap_or(usual) }
}

/// The beginning and the end of a name, if it is wider than `width`.
fn ellipsis(name: &str, begin: usize, end: usize, width: usize) -> String {
    if name.width() <= width {
        return name.to_owned();
    }
    let first = prefix(name, begin);
    let last: Vec<&str> = name[first..].graphemes(true).rev().collect();
    let mut used = 0;
    let last = last.into_iter().take_while(|part| {
        used += part.width();
        used <= end
    });
    let last: usize = last.map(str::len).sum();
    format!("{}…{}", &name[..first], &name[name.len() - last..])
}

/// The length in bytes of the longest beginning that is at most `width` wide and ends between two characters as
/// readers see them.
fn prefix(text: &str, width: usize) -> usize {
    let mut used = 0;
    let parts = text.graphemes(true).take_while(|part| {
        used += part.width();
        used <= width
    });
    parts.map(str::len).sum()
}

/// Wraps text between words. A word wider than that is broken after a slash or another separator, and only
/// without one anywhere.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        let is_first = lines.len() == 1 && lines[0].is_empty();
        let line = lines.last_mut().filter(|line| line.width() + 1 + word.width() <= width);
        match line {
            _ if is_first => {}
            Some(line) => line.push(' '),
            None => lines.push(String::new()),
        }
        while lines.last().map_or(0, |line| line.width()) + rest.width() > width {
            let most = prefix(rest, width).max(rest.graphemes(true).next().map_or(0, str::len));
            let at = rest[..most].rfind(SEPARATORS).map_or(most, |at| at + 1);
            if let Some(line) = lines.last_mut() {
                line.push_str(&rest[..at]);
            }
            rest = &rest[at..];
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(rest);
        }
    }
    while lines.len() > 1 && lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::CellFit::{Name, Number, Text, Whole};
    use super::*;
    use crate::output::ColorMode;

    const SHAPE: TableShape<4> = TableShape {
        columns: [("ID", Whole), ("NAME", Name), ("MB", Number), ("ABOUT", Text)],
        optional: &["MB"],
        important: &["NAME"],
    };

    #[track_caller]
    fn shows(width: Option<usize>, rows: &[[&str; 4]], expected: &[&str]) {
        let rows: Vec<_> = rows.iter().map(|row| row.map(TableCell::from)).collect();
        let layout = TableLayout { width, paint: ColorMode::Never.on_stdout() };
        let shown = layout.rows(&SHAPE, &rows).join("\n");
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "{width:?}");
        let widest = shown.lines().map(UnicodeWidthStr::width).max();
        assert!(width.is_none_or(|width| widest <= Some(width)), "{shown}");
    }

    #[test]
    fn columns_are_squeezed_and_the_least_important_left_out() {
        let rows = [
            ["0123", "a-name-that-goes-on-1", "7", "some words of text that go on and on"],
            ["4567", "a-name-that-goes-on-2", "12345", ""],
        ];
        let whole = [
            "ID    NAME                      MB  ABOUT",
            "0123  a-name-that-goes-on-1      7  some words of text that go on and on",
            "4567  a-name-that-goes-on-2  12345",
        ];
        shows(None, &rows, &whole);
        shows(Some(72), &rows, &whole);
        shows(
            Some(60),
            &rows,
            &[
                "ID    NAME                      MB  ABOUT",
                "0123  a-name-that-goes-on-1      7  some words of text that",
                "                                    go on and on",
                "4567  a-name-that-goes-on-2  12345",
            ],
        );
        shows(
            Some(36),
            &rows,
            &[
                "ID    NAME            ABOUT",
                "0123  a-name-…s-on-1  some words of",
                "                      text that go",
                "                      on and on",
                "4567  a-name-…s-on-2",
            ],
        );
        shows(
            Some(16),
            &rows,
            &[
                "ID    ABOUT",
                "0123  some words",
                "      of text",
                "      that go on",
                "      and on",
                "4567",
            ],
        );
        shows(Some(5), &rows, &["ID", "0123", "4567"]);
        shows(Some(2), &[], &["ID"]);
    }

    #[test]
    fn shortened_names_stay_different() {
        assert_eq!(shortened(&["abcdefgh", "abc"], 8), ["abcdefgh", "abc"]);
        assert_eq!(shortened(&["abcdefghi", "ab"], 6), ["abc…hi", "ab"]);
        assert_eq!(shortened(&["aXcdefghi", "aYcdefghi"], 5), ["aX…hi", "aY…hi"]);
        assert_eq!(shortened(&["abcXXXXhi", "abcYYYYhi"], 5), ["abcX…", "abcY…"]);
        assert_eq!(shortened(&["aaaaaXhi", "aaaaaYhi"], 5), ["…aXhi", "…aYhi"]);
        assert_eq!(shortened(&["漢字漢字漢字"], 7), ["漢…字"]);
        assert_eq!(shortened(&["e\u{301}e\u{301}e\u{301}"], 2), ["e\u{301}…"]);
    }

    #[test]
    fn text_is_wrapped_between_words_as_wide_as_they_are() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
        assert_eq!(wrapped("漢字 漢字 漢字", 9), ["漢字 漢字", "漢字"]);
        assert_eq!(wrapped("e\u{301}e\u{301} e\u{301} a", 4), ["e\u{301}e\u{301} e\u{301}", "a"]);
        assert_eq!(wrapped("in /usr/share/mayfly", 12), ["in", "/usr/share/", "mayfly"]);
        assert_eq!(wrapped("漢字漢字", 1), ["漢", "字", "漢", "字"]);
        assert_eq!(wrapped("abcdefgh i", 5), ["abcde", "fgh i"]);
    }
}
