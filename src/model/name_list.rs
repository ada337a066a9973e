//! Lists of names in messages.

/// The most names that a message lists.
const MOST: usize = 10;

/// Names, separated by commas; after ten, only how many more there are.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let listed = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_end_at_ten() {
        assert_eq!(listed([]), "");
        assert_eq!(listed(["a", "b"]), "a, b");
        assert_eq!(listed(["a"; 10]), ["a"; 10].join(", "));
        assert_eq!(listed(["a"; 22]), format!("{} and 12 more", ["a"; 10].join(", ")));
    }
}
