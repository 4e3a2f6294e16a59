//! The page: one HTML file with its pictures inside.

use crate::figure::slug;
use crate::format::escape;
use crate::{Figure, Headline};

/// Numbers with names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Headings of the columns; empty for rows of a name, a value, and how to read it.
    pub columns: Vec<String>,
    /// The cells, row by row.
    pub rows: Vec<Vec<String>>,
}

/// Figures and tables on one subject.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// A sentence or two before the figures; may be empty.
    pub text: String,
    /// Pictures, which come first.
    pub figures: Vec<Figure>,
    /// Numbers.
    pub tables: Vec<Table>,
}

/// A page.
///
/// ```
/// use kdm_report::{Page, Section, Table};
///
/// let row = ["rmse".into(), "0.1".into(), "smaller is better".into()];
/// let table = Table::of("Errors", vec![row]);
/// let page = Page {
///     title: "A student".into(),
///     summary: "Measured on 1000 pairs.".into(),
///     sections: vec![Section { tables: vec![table], ..Section::new("Evaluation") }],
///     config: "seed = 1".into(),
///     ..Page::default()
/// };
/// let html = page.html();
/// assert!(html.starts_with("<!doctype html>") && html.contains("smaller is better"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Heading of the page.
    pub title: String,
    /// What was done, in a sentence or two.
    pub summary: String,
    /// The result at a glance; may be empty.
    pub headline: Headline,
    /// The sections; those without content are left out.
    pub sections: Vec<Section>,
    /// The whole configuration, as text; left out when empty.
    pub config: String,
}

impl Table {
    /// A table of names, values, and how to read each.
    pub fn of(title: impl Into<String>, rows: Vec<[String; 3]>) -> Self {
        let rows = rows.into_iter().map(Vec::from).collect();
        Self { title: title.into(), columns: Vec::new(), rows }
    }

    /// A table with headings.
    pub fn with_columns(
        title: impl Into<String>,
        columns: &[&str],
        rows: Vec<Vec<String>>,
    ) -> Self {
        let columns = columns.iter().map(|c| (*c).to_string()).collect();
        Self { title: title.into(), columns, rows }
    }

    /// In Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = vec!["---".to_string(); self.columns.len()];
        let lines =
            [self.columns.as_slice(), &rule].into_iter().chain(self.rows.iter().map(Vec::as_slice));
        lines.map(line).collect()
    }

    /// The rows as lines of text, without headings: names, values and readings in columns.
    pub fn text(&self) -> String {
        let line = |cells: &Vec<String>| match &cells[..] {
            [name, value, note] => format!("{name:24} {value:>10}  {note}\n"),
            cells => cells.join("  ") + "\n",
        };
        self.rows.iter().map(line).collect()
    }

    fn html(&self) -> String {
        let cell = |tag: &str, text: &String| format!("<{tag}>{}</{tag}>", escape(text));
        let row = |tag: &str, cells: &[String]| {
            let cells: String = cells.iter().map(|text| cell(tag, text)).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let head = match &self.columns[..] {
            [] => String::new(),
            columns => format!("<thead>{}</thead>\n", row("th", columns)),
        };
        let rows: String = self.rows.iter().map(|cells| row("td", cells)).collect();
        let title = escape(&self.title);
        let plain = if self.columns.is_empty() { " class=\"plain\"" } else { "" };
        format!(
            "<div class=\"wide\"><table{plain}><caption>{title}</caption>\n{head}<tbody>{rows}\
             </tbody></table></div>\n"
        )
    }
}

impl Section {
    /// An empty section.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.figures.is_empty() && self.tables.is_empty()
    }

    fn html(&self, id: &str) -> String {
        let mut html = format!("<section id=\"{id}\">\n<h2>{}</h2>\n", escape(&self.title));
        if !self.text.is_empty() {
            html += &format!("<p>{}</p>\n", escape(&self.text));
        }
        if !self.figures.is_empty() {
            let figures: String = self.figures.iter().map(Figure::html).collect();
            html += &format!("<div class=\"figures\">\n{figures}</div>\n");
        }
        html.extend(self.tables.iter().map(Table::html));
        html + "</section>\n"
    }
}

/// A figure's picture fills the window when it is clicked, and goes back.
const SCRIPT: &str = "
document.querySelectorAll('figure button').forEach(b=>b.addEventListener('click',()=>
b.classList.toggle('large')));
document.addEventListener('keydown',e=>{if(e.key==='Escape')
document.querySelectorAll('.large').forEach(b=>b.classList.remove('large'))});
";

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1d21;--soft:#565b64;--paper:#f7f7f5;--card:#fff;
--line:#dcdcd8;--accent:#0b62a8;--warn:#8a4b00;--warnbg:#fff4e2}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e3;--soft:#a5a9b0;--paper:#16181b;
--card:#1f2226;--line:#34383e;--accent:#7db8ea;--warn:#f0bd7a;--warnbg:#33260f}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:1120px;margin:0 auto;padding:1.6rem 1rem 4rem;overflow-wrap:break-word}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0}
h2{font-size:1.25rem;margin:2.4rem 0 .6rem;padding-top:.8rem;border-top:1px solid var(--line)}
header p{color:var(--soft);max-width:46rem}
a{color:var(--accent)}
nav ul{list-style:none;padding:0;margin:1.2rem 0 0;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem}
.figures,.pair{display:grid;gap:1rem;align-items:start;
grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr))}
.figures figure:only-child{max-width:720px}
@media(min-width:700px){figure.panels{grid-column:span 2}}
@media(prefers-color-scheme:dark){figure svg [stroke^='#'],figure svg [fill^='#']{
filter:brightness(1.35)}}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.8rem}
figure button{display:block;width:100%;padding:0;border:0;background:none;cursor:zoom-in}
figure img,figure svg{width:100%;height:auto;display:block;border-radius:3px;color:var(--ink)}
.pixels{image-rendering:pixelated}
button.large{position:fixed;inset:0;z-index:9;background:var(--paper);cursor:zoom-out}
button.large img,button.large svg{width:100vw;height:100vh;object-fit:contain}
figcaption{color:var(--soft);font-size:.92rem;margin-top:.5rem}
figcaption b{color:var(--ink)}
dl{display:grid;margin:1.2rem 0 0;gap:.8rem}
.facts{grid-template-columns:repeat(auto-fit,minmax(min(190px,100%),1fr))}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.7rem .9rem}
dt{color:var(--soft);font-size:.85rem}dd{margin:0}
.facts b{display:block;font-size:1.5rem;line-height:1.3;font-variant-numeric:tabular-nums}
.facts span{color:var(--soft);font-size:.85rem}
.made{grid-template-columns:repeat(auto-fit,minmax(min(230px,100%),1fr));font-size:.92rem}
.warnings{background:var(--warnbg);color:var(--warn);border-radius:8px;margin:1rem 0;
padding:.7rem 1rem .7rem 2rem}
div.wide{overflow-x:auto;margin-top:1.4rem}
table{border-collapse:collapse;background:var(--card);width:100%}
caption{text-align:left;font-weight:600;padding:.4rem 0;background:var(--paper)}
td,th{text-align:left;padding:.4rem .8rem;border-bottom:1px solid var(--line);
vertical-align:top}
td:nth-child(2){font-variant-numeric:tabular-nums;white-space:nowrap}
td:nth-child(3){color:var(--soft);min-width:11rem}
@media(max-width:560px){.plain tr{display:grid;grid-template-columns:1fr auto;
border-bottom:1px solid var(--line)}.plain td{border:0;padding:.2rem .6rem}
.plain td:nth-child(3){grid-column:1/-1;padding-bottom:.5rem}}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:1rem;
overflow:auto;font-size:.85rem}
";

impl Page {
    /// All figures, in the order of the page.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        let sections = self.sections.iter().flat_map(|section| &section.figures);
        self.headline.figures.iter().chain(sections)
    }

    /// All tables, in the order of the page.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.sections.iter().flat_map(|section| &section.tables)
    }

    /// The page as one self-contained HTML document.
    pub fn html(&self) -> String {
        let sections: Vec<(String, &Section)> = (self.sections.iter().enumerate())
            .filter(|(_, section)| !section.is_empty())
            .map(|(i, section)| (format!("{}-{}", i + 1, slug(&section.title)), section))
            .collect();
        let mut links: Vec<(&str, &str)> =
            sections.iter().map(|(id, section)| (id.as_str(), section.title.as_str())).collect();
        if !self.config.is_empty() {
            links.push(("configuration", "Configuration"));
        }
        let links: String = links
            .iter()
            .map(|(id, title)| format!("<li><a href=\"#{id}\">{}</a></li>\n", escape(title)))
            .collect();
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<h1>{title}</h1>\n<p>{summary}</p>\n{headline}</header>\n\
             <nav aria-label=\"Sections\">\n<ul>\n{links}</ul>\n</nav>\n<main>\n",
            title = escape(&self.title),
            summary = escape(&self.summary),
            headline = self.headline.html(),
        );
        page.extend(sections.iter().map(|(id, section)| section.html(id)));
        if !self.config.is_empty() {
            page += &format!(
                "<section id=\"configuration\">\n<h2>Configuration</h2>\n<pre>{}</pre>\n\
                 </section>\n",
                escape(&self.config)
            );
        }
        page + &format!("</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlotFormat;

    fn page() -> Page {
        let section = Section {
            text: "1 < 2".into(),
            figures: vec![Figure::of_pixels("A figure & more", vec![1, 2, 3], "c")],
            tables: vec![Table::of("t", vec![["n".into(), "1 <2".into(), "r".into()]])],
            ..Section::new("Numbers <b>")
        };
        Page {
            title: "a < b".into(),
            summary: "\"quoted\" & more".into(),
            sections: vec![section.clone(), Section::new("Nothing"), section],
            config: "x = \"1\"".into(),
            headline: Headline::default(),
        }
    }

    #[test]
    fn the_page_is_self_contained_and_escaped() {
        let html = page().html();
        assert!(
            html.contains("a &lt; b")
                && html.contains("data:image/png;base64,AQID")
                && html.contains("1 &lt;2")
        );
        assert!(!html.contains("http://") && !html.contains("https://"));
        assert!(html.contains("<h2>Numbers &lt;b&gt;</h2>") && html.contains("<p>1 &lt; 2</p>"));
        assert!(html.contains("x = &quot;1&quot;") && !html.contains("<b></h2>"));
    }

    /// Every link leads to one section; empty ones are left out; what is opened is closed.
    #[test]
    fn sections_are_linked() {
        let html = page().html();
        for id in ["1-numbers--b-", "3-numbers--b-", "configuration"] {
            assert_eq!(html.matches(&format!("href=\"#{id}\"")).count(), 1, "{id}");
            assert_eq!(html.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
        }
        assert!(!html.contains("Nothing"));
        for tag in ["section", "table", "figure", "div", "ul", "li", "main", "nav", "tr", "td"] {
            let opened = html.matches(&format!("<{tag}>")).count()
                + html.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        let bare = Page { config: String::new(), ..page() };
        assert!(!bare.html().contains("Configuration"));
    }

    #[test]
    fn tables_as_text() {
        let table = Table::of("t", vec![["rmse".into(), "0.1".into(), "an error".into()]]);
        assert_eq!(table.text(), format!("rmse{}0.1  an error\n", " ".repeat(28)));
        let wide = Table::with_columns("t", &["a", "b"], vec![vec!["1".into(), "2".into()]]);
        assert_eq!(wide.markdown(), "| a | b |\n| --- | --- |\n| 1 | 2 |\n");
        assert_eq!(wide.text(), "1  2\n");
        let (name, bytes) = page().sections[0].figures[0].file(PlotFormat::Pdf);
        assert_eq!((name.as_str(), bytes), ("a-figure---more.png", vec![1, 2, 3]));
    }
}
