//! Elements of an SVG document.

/// A document under construction.
#[derive(Debug)]
pub(super) struct Svg {
    text: String,
}

type Place = (f64, f64);

const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#222}\
    .title{font-size:18px;font-weight:600}.small{font-size:12px;fill:#555}.label{font-size:13px;fill:#333}\
    .tick,.legend{font-size:12px}.value{font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:3px}.grid{stroke:#e4e4e4;stroke-width:1}\
    .axis{stroke:#444;stroke-width:1}.measured{fill:none;stroke-width:2.2;stroke-linejoin:round}\
    .limit{fill:none;stroke-width:1.6;stroke-dasharray:7 5;opacity:.75}.whisker{stroke-width:1.4}";

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\" />\n"
        );
        Self { text }
    }

    /// A line of text; `attributes` as they stand in the document.
    pub(super) fn text(&mut self, (x, y): Place, attributes: &str, text: &str) {
        self.text += &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>\n", escape(text));
    }

    pub(super) fn line(&mut self, from: Place, to: Place, attributes: &str) {
        self.text += &format!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {attributes} />\n",
            from.0, from.1, to.0, to.1
        );
    }

    pub(super) fn path(&mut self, points: &[Place], attributes: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.text += &format!("<polyline points=\"{}\" {attributes} />\n", points.join(" "));
    }

    /// A filled circle; browsers show `note` when the pointer is over it.
    pub(super) fn dot(&mut self, (x, y): Place, colour: &str, note: &str) {
        self.text += &format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"><title>{}</title></circle>\n",
            escape(note)
        );
    }

    pub(super) fn finish(self) -> String {
        self.text + "</svg>\n"
    }
}

/// `text` as character data or an attribute; characters that XML does not have are dropped.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' | '\t' | ' '.. => escaped.push(letter),
            _ => {}
        }
    }
    escaped
}
