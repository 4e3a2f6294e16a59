//! The name that was meant by one that isn't there.

/// That of `names` which `wrong` is a slip of the fingers from; none where all are far.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    // Of short names few letters may differ, or all of them are near.
    let most = (wrong.chars().count() / 2).clamp(1, 3);
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong, &name.to_lowercase());
    let near = names.into_iter().map(|name| (distance(name), name)).min();
    near.filter(|(distance, _)| *distance <= most).map(|(_, name)| name)
}

/// "; did you mean `x`?" for the end of a message, or nothing.
pub fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let name = nearest(wrong, names);
    name.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        let names = ["checkerboard", "gaussian", "cat"];
        assert_eq!(nearest("chekerbord", names), Some("checkerboard"));
        assert_eq!(nearest("Gausian", names), Some("gaussian"));
        assert_eq!(nearest("act", names), Some("cat"));
        assert_eq!(nearest("dog", names), None);
        assert_eq!(did_you_mean("cart", names), "; did you mean `cat`?");
        assert_eq!(did_you_mean("", []), "");
    }
}
