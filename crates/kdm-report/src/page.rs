//! The report: one HTML file with its pictures inside.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A picture with a sentence on how to read it.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Heading.
    pub title: String,
    /// The picture.
    pub png: Vec<u8>,
    /// How to read it.
    pub caption: String,
}

/// Numbers with names.
#[derive(Clone, Debug)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Headings of the columns; empty for rows of a name, a value, and how to read it.
    pub columns: Vec<String>,
    /// The cells, row by row.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of names, values, and how to read each.
    pub fn of(title: &str, rows: Vec<[String; 3]>) -> Self {
        Self {
            title: title.into(),
            columns: Vec::new(),
            rows: rows.into_iter().map(Vec::from).collect(),
        }
    }

    /// In Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = vec!["---".to_string(); self.columns.len()];
        let lines =
            [self.columns.as_slice(), &rule].into_iter().chain(self.rows.iter().map(Vec::as_slice));
        lines.map(line).collect()
    }

    fn html(&self) -> String {
        let row = |tag: &str, cells: &[String]| -> String {
            let cells: String =
                cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let head = if self.columns.is_empty() { String::new() } else { row("th", &self.columns) };
        let rows: String = self.rows.iter().map(|cells| row("td", cells)).collect();
        format!(
            "<h2>{}</h2>\n<div class=\"wide\"><table>\n{head}{rows}</table></div>\n",
            escape(&self.title)
        )
    }
}

/// A page: pictures first, then numbers.
#[derive(Clone, Debug)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// What was done, in a sentence or two.
    pub summary: String,
    /// The pictures.
    pub figures: Vec<Figure>,
    /// The numbers.
    pub tables: Vec<Table>,
    /// The whole configuration, as text.
    pub config: String,
}

const STYLE: &str = "
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;color:#1c1c1c;background:#fafafa;max-width:1120px;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:.2rem}h2{margin-top:2.2rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(330px,1fr));gap:1.2rem}
figure{margin:0;background:#fff;border:1px solid #ddd;border-radius:8px;padding:.8rem}
figure img{width:100%;height:auto;display:block}
figcaption{color:#444;font-size:.92rem}
div.wide{overflow-x:auto}
table{border-collapse:collapse;background:#fff;width:100%}
td,th{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #e4e4e4;vertical-align:top}
td:nth-child(2){font-variant-numeric:tabular-nums;white-space:nowrap}
td:nth-child(3){color:#555}
pre{background:#fff;border:1px solid #ddd;border-radius:8px;padding:1rem;overflow:auto;font-size:.85rem}
";

impl Report {
    /// The page as one self-contained HTML document.
    pub fn html(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<p>{summary}</p>\n",
            title = escape(&self.title),
            summary = escape(&self.summary),
        );
        page.push_str("<div class=\"figures\">\n");
        for figure in &self.figures {
            page.push_str(&format!(
                "<figure><img alt=\"{0}\" \
                 src=\"data:image/png;base64,{1}\"><figcaption><b>{0}.</b> \
                       {2}</figcaption></figure>\n",
                escape(&figure.title),
                STANDARD.encode(&figure.png),
                escape(&figure.caption),
            ));
        }
        page.push_str("</div>\n");
        for table in &self.tables {
            page.push_str(&table.html());
        }
        page.push_str(&format!(
            "<h2>Configuration</h2>\n<pre>{}</pre>\n</body></html>\n",
            escape(&self.config)
        ));
        page
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_self_contained_and_escaped() {
        let report = Report {
            title: "a < b".into(),
            summary: "\"quoted\" & more".into(),
            figures: vec![Figure { title: "f".into(), png: vec![1, 2, 3], caption: "c".into() }],
            tables: vec![Table::of("t", vec![["n".into(), "1 <2".into(), "r".into()]])],
            config: "x = \"1\"".into(),
        };
        let html = report.html();
        assert!(
            html.contains("a &lt; b")
                && html.contains("data:image/png;base64,AQID")
                && html.contains("1 &lt;2")
        );
        assert!(!html.contains("http://") && !html.contains("https://"));
    }
}
