//! Lines over days as one SVG file: no script, no font and no address in it, so that it can be
//! opened and sent anywhere.

use std::fmt::Write as _;

use crate::Date;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
/// Where the axes are.
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 80.0;
const BOTTOM: f64 = 50.0;
/// Told apart without colours too, by their order and their dashes (Okabe and Ito 2008).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const DASHES: [&str; 3] = ["none", "8 4", "2 3"];
/// Lines of one chart: more cannot be read.
const N_SERIES_MAX: usize = 12;
const N_STEPS: u32 = 5;
/// What is more is drawn as this: the axis has names for no more.
const VALUE_MAX: f64 = 1e18;

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Of its values.
    pub unit: String,
    /// Its lines; of more than twelve the first are drawn, and the title says so.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is of.
    pub name: String,
    /// Its points, in the order of their days. What is no number is left out.
    pub points: Vec<(Date, f64)>,
}

impl Chart {
    /// The chart as a whole SVG document.
    pub fn svg(&self) -> String {
        let n_left_out = self.series.len().saturating_sub(N_SERIES_MAX);
        let mut title = self.title.clone();
        if n_left_out > 0 {
            title.push_str(&format!(" (without {n_left_out} more)"));
        }
        let drawn = &self.series[..self.series.len() - n_left_out];
        let frame = Frame::of(drawn);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<title>{0}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n",
            escaped(&title)
        );
        text(&mut out, (LEFT, 18.0), "start", &format!("{title}, {}", self.unit));
        frame.axes(&mut out);
        for (idx, series) in drawn.iter().enumerate() {
            frame.line(&mut out, idx, series);
        }
        out.push_str("</svg>\n");
        out
    }
}

/// What is where.
struct Frame {
    first: Date,
    n_days: f64,
    most: f64,
}

impl Frame {
    fn of(series: &[Series]) -> Self {
        let points = || series.iter().flat_map(finite);
        let today = Date::of_us(0);
        let first = points().map(|(day, _)| day).min().unwrap_or(today);
        let last = points().map(|(day, _)| day).max().unwrap_or(today);
        let most = points().map(|(_, value)| value).fold(0.0, f64::max);
        Self { first, n_days: (last.days_since(first) as f64).max(1.0), most: round_up(most) }
    }

    fn x(&self, n_days: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * n_days / self.n_days
    }

    /// What is below zero is drawn at zero.
    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value.max(0.0) / self.most
    }

    fn axes(&self, out: &mut String) {
        for step in 0..=N_STEPS {
            let part = f64::from(step) / f64::from(N_STEPS);
            let (value, y) = (self.most * part, self.y(self.most * part));
            let right = WIDTH - RIGHT;
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ccc\"/>"
            );
            text(out, (LEFT - 8.0, y + 4.0), "end", &short(value));
            // A day has no parts.
            let n_days = (self.n_days * part).round();
            let day = self.first.plus(n_days as i64);
            text(out, (self.x(n_days), HEIGHT - BOTTOM + 20.0), "middle", &day.to_string());
        }
    }

    fn line(&self, out: &mut String, idx: usize, series: &Series) {
        let colour = COLOURS[idx % COLOURS.len()];
        let dash = DASHES[idx / COLOURS.len() % DASHES.len()];
        let style = format!(
            "fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\""
        );
        let points: Vec<String> = finite(series)
            .map(|(day, value)| {
                let x = self.x(day.days_since(self.first) as f64);
                format!("{x:.1},{:.1}", self.y(value))
            })
            .collect();
        // A single point is a line of no length, which a round cap shows.
        let points = match &points[..] {
            [one] => format!("{one} {one}"),
            all => all.join(" "),
        };
        let _ = writeln!(out, "<polyline points=\"{points}\" stroke-linecap=\"round\" {style}/>");
        let (column, row) = ((idx % 4) as f64, (idx / 4) as f64);
        let (x, y) = (LEFT + column * 190.0, 32.0 + row * 14.0);
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{0}\" x2=\"{1}\" y2=\"{0}\" {style}/>",
            y - 4.0,
            x + 24.0
        );
        text(out, (x + 30.0, y), "start", &series.name.chars().take(24).collect::<String>());
    }
}

fn finite(series: &Series) -> impl Iterator<Item = (Date, f64)> {
    let finite = series.points.iter().copied().filter(|(_, value)| value.is_finite());
    finite.map(|(day, value)| (day, value.min(VALUE_MAX)))
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

/// The next of 1, 2, 2.5, 5 and their tens, so that the steps have round names.
fn round_up(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let ten = 10_f64.powf(most.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|step| step * ten)
        .into_iter()
        .find(|step| *step >= most)
        .unwrap_or(most)
}

/// A value as the axis tells it.
fn short(value: f64) -> String {
    for (suffix, unit) in [("G", 1e9), ("M", 1e6), ("k", 1e3)] {
        if value >= unit {
            return format!("{}{suffix}", (value / unit * 100.0).round() / 100.0);
        }
    }
    format!("{}", (value * 1e4).round() / 1e4)
}

/// A text as XML has it. Names come from whoever wrote the prices, and from clients.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // What XML 1.0 has no place for.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(n: i64) -> Date {
        Date::new(2026, 1, 1).unwrap().plus(n)
    }

    /// Every element is closed, and nothing stands outside of them.
    #[track_caller]
    fn check_form(svg: &str) {
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        let mut open = Vec::new();
        for element in svg.split('<').skip(1) {
            let (tag, behind) = element.split_once('>').expect("a tag ends");
            assert!(!behind.contains('>'), "{element}");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name.to_owned()), "{tag}"),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split(' ').next().unwrap().to_owned()),
            }
        }
        assert!(open.is_empty(), "{open:?}");
        for (_, numbers) in
            svg.match_indices("points=\"").map(|(at, mark)| svg[at..].split_at(mark.len()))
        {
            let numbers = numbers.split('"').next().unwrap();
            let is_number = |number: &str| number.parse::<f64>().is_ok_and(f64::is_finite);
            assert!(
                numbers.split([' ', ',']).all(|one| one.is_empty() || is_number(one)),
                "{numbers}"
            );
        }
    }

    #[test]
    fn lines_are_drawn_where_their_days_are() {
        let series = |name: &str, points: &[(i64, f64)]| Series {
            name: name.to_owned(),
            points: points.iter().map(|(n, value)| (day(*n), *value)).collect(),
        };
        let chart = Chart {
            title: "renting & owning".to_owned(),
            unit: "EUR".to_owned(),
            series: vec![
                series("rent <b>", &[(0, 0.0), (5, 10.0), (10, 20.0)]),
                series("own", &[(0, 15.0), (10, f64::NAN)]),
            ],
        };
        let svg = chart.svg();
        check_form(&svg);
        for outside in ["script", "href", "url(", "@import", "NaN", "inf"] {
            assert!(!svg.contains(outside), "{outside}");
        }
        // From the left at 0 to the right at 20, which is the top.
        assert!(svg.contains("points=\"90.0,370.0 465.0,225.0 840.0,80.0\""), "{svg}");
        assert!(svg.contains("points=\"90.0,152.5 90.0,152.5\""), "{svg}");
        assert!(svg.contains("renting &amp; owning, EUR") && svg.contains("rent &lt;b&gt;"));
        assert!(
            svg.contains(">2026-01-01<") && svg.contains(">2026-01-11<") && svg.contains(">20<")
        );
    }

    #[test]
    fn little_and_much_is_drawn_too() {
        let none = Chart { title: String::new(), unit: String::new(), series: Vec::new() };
        check_form(&none.svg());
        let one = Series { name: "n".to_owned(), points: vec![(day(0), 3e9)] };
        let many = Chart { series: vec![one; 15], title: "t".to_owned(), ..none };
        let svg = many.svg();
        check_form(&svg);
        assert_eq!(svg.matches("<polyline").count(), N_SERIES_MAX);
        assert!(svg.contains("t (without 3 more)") && svg.contains(">5G<"));
    }

    #[test]
    fn steps_have_round_names() {
        for (most, expected) in [(0.0, 1.0), (0.03, 0.05), (7.0, 10.0), (10.0, 10.0), (2.2, 2.5)] {
            assert!((round_up(most) - expected).abs() < 1e-9, "{most}");
        }
        for (value, expected) in [(0.0, "0"), (12.5, "12.5"), (1500.0, "1.5k"), (2e6, "2M")] {
            assert_eq!(short(value), expected);
        }
    }

    proptest! {
        /// Whatever the names and the values are, it is one SVG document.
        #[test]
        fn any_chart_is_well_formed(
            name in any::<String>(),
            values in prop::collection::vec((0..5000_i64, any::<f64>()), 0..20),
        ) {
            let points = values.into_iter().map(|(n, value)| (day(n), value)).collect();
            let series = vec![Series { name: name.clone(), points }];
            let svg = Chart { title: name.clone(), unit: name, series }.svg();
            check_form(&svg);
        }
    }
}
