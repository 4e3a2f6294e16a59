//! What a page begins with: the result at a glance.

use crate::Figure;
use crate::format::escape;

/// A number that sums a result up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: String,
    /// How to read it.
    pub reading: String,
}

/// The result at a glance: pictures side by side, the numbers that sum it up, what to be careful
/// about, and how it was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headline {
    /// Pictures side by side, such as the teacher's and the student's.
    pub figures: Vec<Figure>,
    /// The numbers.
    pub facts: Vec<Fact>,
    /// What to be careful about, each a sentence that ends in what to do.
    pub warnings: Vec<String>,
    /// How it was made: names and values.
    pub made: Vec<(String, String)>,
}

impl Headline {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn html(&self) -> String {
        let warnings = self.warnings.iter().map(|text| format!("<li>{}</li>\n", escape(text)));
        let warnings: String = warnings.collect();
        let figures: String = self.figures.iter().map(Figure::html).collect();
        let fact = |fact: &Fact| {
            format!(
                "<div><dt>{}</dt><dd><b>{}</b><span>{}</span></dd></div>\n",
                escape(&fact.name),
                escape(&fact.value),
                escape(&fact.reading)
            )
        };
        let facts: String = self.facts.iter().map(fact).collect();
        let made = self.made.iter().map(|(name, value)| {
            format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), linked(value))
        });
        let made: String = made.collect();
        let part = |open: &str, inner: &str, close: &str| {
            if inner.is_empty() { String::new() } else { format!("{open}\n{inner}{close}\n") }
        };
        [
            part("<ul class=\"warnings\" role=\"note\">", &warnings, "</ul>"),
            part("<div class=\"pair\">", &figures, "</div>"),
            part("<dl class=\"facts\">", &facts, "</dl>"),
            part("<dl class=\"made\">", &made, "</dl>"),
        ]
        .concat()
    }
}

/// Text with its addresses as links.
fn linked(text: &str) -> String {
    let word = |word: &str| {
        let shown = escape(word);
        match word.starts_with("http://") || word.starts_with("https://") {
            true => format!("<a href=\"{shown}\">{shown}</a>"),
            false => shown,
        }
    };
    text.split(' ').map(word).collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_links() {
        let address = "open http://127.0.0.1:8000/?a&b";
        let link = "http://127.0.0.1:8000/?a&amp;b";
        assert_eq!(linked(address), format!("open <a href=\"{link}\">{link}</a>"));
        assert_eq!(linked("a <b"), "a &lt;b");
    }

    #[test]
    fn what_is_there_is_shown_and_escaped() {
        assert_eq!(Headline::default().html(), "");
        assert!(Headline::default().is_empty());
        let headline = Headline {
            facts: vec![Fact {
                name: "speed-up".into(),
                value: "12 x".into(),
                reading: "a < b".into(),
            }],
            warnings: vec!["few & far".into()],
            ..Headline::default()
        };
        let html = headline.html();
        assert!(html.contains("<b>12 x</b><span>a &lt; b</span>"), "{html}");
        assert!(html.contains("<li>few &amp; far</li>") && !html.contains("class=\"made\""));
    }
}
