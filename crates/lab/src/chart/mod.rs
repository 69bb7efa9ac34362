//! A line chart as SVG or as an HTML page: limits dashed, ranges as whiskers.

mod axis;
mod svg;

pub use axis::Scale;

use axis::Axis;
use svg::{Svg, escape};

/// A chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// First line.
    pub title: String,
    /// Second line: the circumstances.
    pub subtitle: String,
    /// Name of the horizontal axis.
    pub x_label: String,
    /// Name of the vertical axis.
    pub y_label: String,
    /// Layout of the horizontal axis.
    pub x_scale: Scale,
    /// Layout of the vertical axis.
    pub y_scale: Scale,
    /// The lines.
    pub series: Vec<Series>,
}

/// One line of measurements and its limit. Coordinates on a logarithmic axis are positive; others are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// The measurements.
    pub marks: Vec<Mark>,
    /// A solid line without marks, for many points: its corners.
    pub line: Vec<(f64, f64)>,
    /// What they cannot exceed.
    pub limit: Option<Line>,
}

/// A measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mark {
    /// Place on the horizontal axis.
    pub x: f64,
    /// The median.
    pub y: f64,
    /// The smallest repetition.
    pub low: f64,
    /// The largest repetition.
    pub high: f64,
}

/// A line without marks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Its corners.
    pub points: Vec<(f64, f64)>,
}

/// Colours that people with colour blindness tell apart (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333"];

const LEFT: f64 = 78.0;
const TOP: f64 = 84.0;
const PLOT_WIDTH: f64 = 620.0;
const PLOT_HEIGHT: f64 = 380.0;
const BELOW: f64 = 64.0;
/// Of a whole chart.
const HEIGHT: f64 = TOP + PLOT_HEIGHT + BELOW;
/// Width of a letter of the legend, generously.
const LETTER: f64 = 6.8;
/// Height of a line of the legend.
const ENTRY: f64 = 21.0;
/// Most series whose marks carry their value.
const VALUES_UP_TO: usize = 3;

impl Chart {
    /// The chart as an SVG document.
    pub fn svg(&self) -> String {
        let (x, y) = self.axes();
        let legend = self.legend();
        let mut svg = Svg::new(self.width(), HEIGHT);
        svg.text((LEFT, 32.0), "class=\"title\"", &self.title);
        svg.text((LEFT, 54.0), "class=\"small\"", &self.subtitle);
        self.frame(&mut svg, &x, &y);
        for (index, series) in self.series.iter().enumerate() {
            draw_limit(&mut svg, series, colour(index), (&x, &y));
        }
        // The first lies on top.
        for (index, series) in self.series.iter().enumerate().rev() {
            let values = self.series.len() <= VALUES_UP_TO;
            draw_marks(&mut svg, series, colour(index), (&x, &y), values);
        }
        for (row, entry) in legend.iter().enumerate() {
            entry.draw(&mut svg, TOP + 12.0 + ENTRY * row as f64);
        }
        svg.finish()
    }

    /// The chart in a page of its own, with its figures in a table.
    pub fn html(&self) -> String {
        let table = self.table();
        page(&self.title, &format!("{}\n{table}", self.svg()))
    }

    /// The marks and their limits as a table in HTML.
    fn table(&self) -> String {
        let mut rows = String::new();
        for series in &self.series {
            for mark in &series.marks {
                let limit = series.limit_at(mark.x);
                let share =
                    limit.map_or_else(String::new, |limit| format!("{:.0} %", 100.0 * mark.y / limit));
                let limit = limit.map_or_else(String::new, figure);
                let cells = [
                    escape(&series.name),
                    figure(mark.x),
                    figure(mark.y),
                    format!("{} – {}", figure(mark.low), figure(mark.high)),
                    limit,
                    share,
                ];
                rows += &format!("<tr><td>{}</td></tr>\n", cells.join("</td><td>"));
            }
        }
        let (x, y) = (escape(&self.x_label), escape(&self.y_label));
        format!(
            "<table>\n<thead><tr><th>series</th><th>{x}</th><th>{y}</th><th>range</th><th>limit</th>\
             <th>share of the limit</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>"
        )
    }

    /// Width with the legend.
    fn width(&self) -> f64 {
        let letters = self.legend().iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0);
        LEFT + PLOT_WIDTH + 62.0 + LETTER * letters as f64
    }

    fn axes(&self) -> (Axis, Axis) {
        let marks = || self.series.iter().flat_map(|series| &series.marks);
        let limits = self.series.iter().filter_map(|series| series.limit.as_ref()).flat_map(|l| &l.points);
        let lines = self.series.iter().flat_map(|series| &series.line);
        let corners: Vec<(f64, f64)> = limits.chain(lines).copied().collect();
        let x = || marks().map(|mark| mark.x).chain(corners.iter().map(|corner| corner.0));
        let y = marks().flat_map(|mark| [mark.low, mark.high]).chain(corners.iter().map(|corner| corner.1));
        let x = match self.x_scale {
            Scale::Linear => Axis::of_differences(x()),
            Scale::Log if marks().next().is_some() => Axis::of_values(x()),
            Scale::Log => Axis::of_decades(x()),
        };
        let y = match self.y_scale {
            Scale::Linear => Axis::of_differences(y),
            Scale::Log => Axis::of_decades(y),
        };
        (x.placed(LEFT, LEFT + PLOT_WIDTH), y.placed(TOP + PLOT_HEIGHT, TOP))
    }

    /// Grid, ticks and names of the axes.
    fn frame(&self, svg: &mut Svg, x: &Axis, y: &Axis) {
        let (right, bottom) = (LEFT + PLOT_WIDTH, TOP + PLOT_HEIGHT);
        for tick in y.ticks() {
            let at = y.place(*tick);
            svg.line((LEFT, at), (right, at), "class=\"grid\"");
            svg.text((LEFT - 9.0, at + 4.0), "class=\"tick\" text-anchor=\"end\"", &figure(*tick));
        }
        for tick in x.ticks() {
            let at = x.place(*tick);
            svg.line((at, TOP), (at, bottom), "class=\"grid\"");
            svg.text((at, bottom + 19.0), "class=\"tick\" text-anchor=\"middle\"", &figure(*tick));
        }
        svg.line((LEFT, bottom), (right, bottom), "class=\"axis\"");
        svg.line((LEFT, TOP), (LEFT, bottom), "class=\"axis\"");
        let middle = LEFT + PLOT_WIDTH / 2.0;
        svg.text((middle, bottom + 46.0), "class=\"label\" text-anchor=\"middle\"", &self.x_label);
        let (at, centre) = (20.0, TOP + PLOT_HEIGHT / 2.0);
        let turned =
            format!("class=\"label\" text-anchor=\"middle\" transform=\"rotate(-90 {at:.0} {centre:.0})\"");
        svg.text((at, centre), &turned, &self.y_label);
    }

    /// What the lines are, measurements first.
    fn legend(&self) -> Vec<Entry<'_>> {
        let measured = self.series.iter().enumerate().map(|(index, series)| Entry {
            name: &series.name,
            colour: colour(index),
            dashed: false,
            marked: series.line.is_empty(),
        });
        let limits = self.series.iter().enumerate().filter_map(|(index, series)| {
            let name = &series.limit.as_ref()?.name;
            Some(Entry { name, colour: colour(index), dashed: true, marked: false })
        });
        measured.chain(limits).collect()
    }
}

impl Series {
    fn limit_at(&self, x: f64) -> Option<f64> {
        let points = &self.limit.as_ref()?.points;
        points.iter().find(|point| (point.0 - x).abs() < 1e-9).map(|point| point.1)
    }
}

/// Several charts below each other as one SVG document.
pub fn stacked(charts: &[Chart]) -> String {
    let (mut height, mut width, mut parts) = (0.0, 0.0f64, String::new());
    for chart in charts {
        width = width.max(chart.width());
        parts += &chart.svg().replacen("<svg ", &format!("<svg y=\"{height:.0}\" "), 1);
        height += HEIGHT;
    }
    let size = format!("width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\"");
    format!("<svg xmlns=\"http://www.w3.org/2000/svg\" {size} role=\"img\">\n{parts}</svg>\n")
}

/// A page with a title and several charts, `text` above them as it is.
pub fn page_of(title: &str, text: &str, charts: &[Chart]) -> String {
    let charts: String = charts.iter().map(Chart::svg).collect();
    page(title, &format!("<h1>{}</h1>\n<pre>{}</pre>\n{charts}", escape(title), escape(text)))
}

/// A page around `body`.
fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n<title>{title}</title>\n\
         <style>{PAGE_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
}

struct Entry<'a> {
    name: &'a str,
    colour: &'static str,
    dashed: bool,
    marked: bool,
}

impl Entry<'_> {
    fn draw(&self, svg: &mut Svg, y: f64) {
        let x = LEFT + PLOT_WIDTH + 20.0;
        let class = if self.dashed { "limit" } else { "measured" };
        svg.line((x, y), (x + 26.0, y), &format!("class=\"{class}\" stroke=\"{}\"", self.colour));
        if self.marked {
            svg.dot((x + 13.0, y), self.colour, "");
        }
        svg.text((x + 34.0, y + 4.0), "class=\"legend\"", self.name);
    }
}

fn draw_limit(svg: &mut Svg, series: &Series, colour: &str, (x, y): (&Axis, &Axis)) {
    let Some(limit) = &series.limit else { return };
    let points: Vec<(f64, f64)> =
        limit.points.iter().map(|point| (x.place(point.0), y.place(point.1))).collect();
    svg.path(&points, &format!("class=\"limit\" stroke=\"{colour}\""));
}

fn draw_marks(svg: &mut Svg, series: &Series, colour: &str, (x, y): (&Axis, &Axis), values: bool) {
    let points: Vec<(f64, f64)> =
        series.marks.iter().map(|mark| (x.place(mark.x), y.place(mark.y))).collect();
    svg.path(&points, &format!("class=\"measured\" stroke=\"{colour}\""));
    let corners: Vec<_> = series.line.iter().map(|corner| (x.place(corner.0), y.place(corner.1))).collect();
    svg.path(&corners, &format!("class=\"measured\" stroke=\"{colour}\""));
    for (mark, at) in series.marks.iter().zip(points) {
        let whisker = format!("class=\"whisker\" stroke=\"{colour}\"");
        svg.line((at.0, y.place(mark.low)), (at.0, y.place(mark.high)), &whisker);
        let share =
            series.limit_at(mark.x).map(|limit| format!(", {:.0} % of the limit", 100.0 * mark.y / limit));
        let note = format!(
            "{} at {}: {} ({} to {}){}",
            series.name,
            figure(mark.x),
            figure(mark.y),
            figure(mark.low),
            figure(mark.high),
            share.unwrap_or_default()
        );
        svg.dot(at, colour, &note);
        if values {
            let style = format!("class=\"value\" text-anchor=\"middle\" style=\"fill:{colour}\"");
            svg.text((at.0, at.1 + 19.0), &style, &figure(mark.y));
        }
    }
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// Three digits, thousands grouped: `0.25`, `31.4`, `654`, `1,686`.
fn figure(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if (value - value.round()).abs() < 1e-9 || size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.0995 => 2,
        _ => 4,
    };
    let digits = format!("{value:.decimals$}");
    let digits = if decimals == 4 { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    let (whole, rest) = digits.split_once('.').map_or((digits, String::new()), |(w, r)| (w, format!(".{r}")));
    let first = whole.len() % 3;
    let mut grouped = whole[..first].to_owned();
    for group in whole.as_bytes()[first..].chunks(3) {
        if !grouped.is_empty() {
            grouped.push(',');
        }
        grouped += &String::from_utf8_lossy(group);
    }
    grouped + &rest
}

const PAGE_STYLE: &str = "body{font-family:system-ui,sans-serif;margin:2rem;color:#222}svg{max-width:100%;height:auto}\
    table{border-collapse:collapse;margin-top:1rem;font-size:.9rem}th,td{padding:.3rem .8rem;text-align:right;\
    border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}";

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let marks = [1.0, 2.0, 64.0].map(|x| Mark { x, y: 20.0 * x, low: 18.0 * x, high: 21.0 * x }).to_vec();
        let limit = Line { name: "limit <1>".into(), points: vec![(1.0, 30.0), (2.0, 60.0), (64.0, 1686.0)] };
        Chart {
            title: "a & b".into(),
            subtitle: "\"quoted\"".into(),
            x_label: "x".into(),
            y_label: "y".into(),
            series: vec![
                Series { name: "bf16".into(), marks, limit: Some(limit), ..Series::default() },
                Series { name: "none".into(), ..Series::default() },
            ],
            ..Chart::default()
        }
    }

    /// Fails unless every tag is closed in order, attributes are quoted and no bare `&` or `<` is left.
    fn check_xml(text: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('<') {
            assert!(!has_bare_ampersand(&rest[..start]), "{}", &rest[..start]);
            let end = start + rest[start..].find('>').expect("a tag ends");
            let tag = &rest[start + 1..end];
            rest = &rest[end + 1..];
            assert!(!tag.contains('<') && tag.matches('"').count().is_multiple_of(2), "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
                open.push(tag.split_whitespace().next().expect("a tag has a name"));
            }
        }
        assert!(open.is_empty() && !rest.contains('>') && !has_bare_ampersand(rest), "{open:?} {rest}");
    }

    fn has_bare_ampersand(text: &str) -> bool {
        let entities = ["amp;", "lt;", "gt;", "quot;"];
        text.split('&').skip(1).any(|rest| !entities.iter().any(|entity| rest.starts_with(entity)))
    }

    #[test]
    fn the_picture_is_well_formed_and_holds_what_was_measured() {
        let svg = chart().svg();
        check_xml(&svg);
        for expected in [
            "a &amp; b",
            "&quot;quoted&quot;",
            "limit &lt;1&gt;",
            "1,280",
            "76 % of the limit",
            "stroke-dasharray",
        ] {
            assert!(svg.contains(expected), "{expected} is missing in\n{svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn the_page_is_well_formed_and_has_a_row_per_measurement() {
        let page = chart().html();
        check_xml(&page);
        assert_eq!(page.matches("<tr><td>").count(), 3);
        assert!(page.contains("<td>1,280</td>") && page.contains("76 %"), "{page}");
    }

    #[test]
    fn charts_below_each_other_and_in_a_page_are_well_formed() {
        let line = (0..50).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        let plain = Chart {
            x_scale: Scale::Linear,
            y_scale: Scale::Linear,
            series: vec![Series { name: "plain".into(), line, ..Series::default() }],
            ..chart()
        };
        let both = [chart(), plain];
        let svg = stacked(&both);
        check_xml(&svg);
        assert_eq!(svg.matches("</svg>").count(), 3);
        check_xml(&page_of("a < b", "1 & 2", &both));
    }

    #[test]
    fn empty_and_odd_charts_are_drawn() {
        check_xml(&Chart::default().svg());
        let mut odd = chart();
        odd.series[0].marks = vec![Mark { x: 4.0, y: 0.0, low: f64::NAN, high: f64::INFINITY }];
        odd.series[0].limit = None;
        let svg = odd.svg();
        check_xml(&svg);
        assert!(!svg.contains("=\"NaN") && !svg.contains("=\"inf"), "{svg}");
    }

    #[test]
    fn figures_have_three_digits() {
        for (value, expected) in [
            (0.25, "0.25"),
            (0.005, "0.005"),
            (0.00001, "0"),
            (31.42, "31.4"),
            (64.0, "64"),
            (653.8, "654"),
            (1686.4, "1,686"),
            (2e6, "2,000,000"),
        ] {
            assert_eq!(figure(value), expected);
        }
    }
}
