//! What a user may have meant by a name that does not exist.

/// The one of `known` that is nearest to what was typed. A third of the letters, and always one, may be
/// wrong, missing or too many; two that were swapped count as one. A name may also be typed only in part.
/// Case does not matter.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names are this long at most, and comparing longer ones takes time.
    const LONGEST: usize = 128;
    if typed.len() > LONGEST {
        return None;
    }
    let typed = typed.to_lowercase();
    let near = known.into_iter().filter(|name| name.len() <= LONGEST);
    let near = near.filter_map(|name| Some((distance(&typed, name)?, name)));
    near.min().map(|(_, name)| name)
}

/// The number of wrong letters; `None` if there are too many.
fn distance(typed: &str, name: &str) -> Option<usize> {
    let (letters, name) = (typed.chars().count(), name.to_lowercase());
    let begins = letters >= 2 && name.starts_with(typed);
    let distance = strsim::osa_distance(typed, &name);
    // Another single letter is not a misspelling.
    let is_near = distance <= (letters / 3).max(1) && distance < letters;
    (is_near || begins).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_found_and_different_ones_are_not() {
        let known = ["web", "build-1", "debian-base", "debian-build", "Ci"];
        for (typed, meant) in [
            ("wbe", Some("web")),
            ("we", Some("web")),
            ("webb", Some("web")),
            ("WEB", Some("web")),
            ("ci", Some("Ci")),
            ("build", Some("build-1")),
            ("debain-bsae", Some("debian-base")),
            ("debian-b", Some("debian-base")),
            ("debian_build", Some("debian-build")),
            ("w", None),
            ("db", None),
            ("nope", None),
            ("", None),
            ("nginx", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
        assert_eq!(nearest("x", []), None);
        assert_eq!(nearest("\u{130}\u{130}", ["i\u{307}i\u{307}"]), Some("i\u{307}i\u{307}"));
    }

    #[test]
    fn a_very_long_name_is_near_nothing() {
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, [long.as_str()]), None);
        assert_eq!(nearest("xx", [long.as_str()]), None);
    }
}
