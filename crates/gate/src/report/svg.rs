//! The plots of the report for browsers, as inline SVG. Colours are classes of its style sheet;
//! every plot also says in words what it shows.

use super::Rate;
use super::html::escaped;
use crate::stats::Interval;

/// Width of a plot in its own units.
const WIDTH: f64 = 640.0;
/// Where bars begin: names stand before.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 60.0;
const ROW: f64 = 34.0;
/// Side of the square of a case.
const CELL: usize = 14;
const N_CELLS_A_ROW: usize = 44;

/// Pass rates as bars with their intervals.
pub(super) fn rates(rows: &[(&str, Rate)]) -> String {
    let height = ROW * rows.len() as f64 + 24.0;
    let x = |part: f64| LEFT + part * (WIDTH - LEFT - RIGHT);
    let mut body = String::new();
    for tick in 0..=4 {
        let part = f64::from(tick) / 4.0;
        let (at, bottom) = (x(part), height - 20.0);
        body.push_str(&format!(
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{bottom:.1}\"/>\
             <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\">{:.0} %</text>",
            height - 4.0,
            100.0 * part
        ));
    }
    for (row_idx, (name, rate)) in rows.iter().enumerate() {
        let y = ROW * row_idx as f64 + 6.0;
        let (low, high) = (x(rate.interval.low), x(rate.interval.high));
        let (width, middle) = (x(rate.part()) - LEFT, y + 9.0);
        body.push_str(&format!(
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <rect class=\"bar b{row_idx}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"18\"/>\
             <path class=\"error\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v10M{high:.1} \
             {:.1}v10\"/>",
            LEFT - 8.0,
            y + 13.0,
            escaped(&shortened(name)),
            middle - 5.0,
            middle - 5.0,
        ));
    }
    figure(height, "Pass rates with 95 % intervals (Wilson)", &body)
}

/// By how much the mean pass rate changed, from -1 to 1, with its interval.
pub(super) fn gain(gain: f64, interval: Interval) -> String {
    let height = ROW + 24.0;
    let x = |part: f64| LEFT + (part + 1.0) / 2.0 * (WIDTH - LEFT - RIGHT);
    let mut body = String::new();
    for (part, class) in
        [(-1.0, "grid"), (-0.5, "grid"), (0.0, "mark"), (0.5, "grid"), (1.0, "grid")]
    {
        body.push_str(&format!(
            "<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{ROW}\"/>\
             <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\">{:+.0}</text>",
            height - 4.0,
            100.0 * part,
            at = x(part),
        ));
    }
    let (low, high, at, middle) = (x(interval.low), x(interval.high), x(gain), ROW / 2.0);
    let (top, left) = (middle - 5.0, LEFT - 8.0);
    body.push_str(&format!(
        "<text class=\"name\" x=\"{left:.1}\" y=\"{:.1}\">points</text>\
         <path class=\"error\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {top:.1}v10M{high:.1} \
         {top:.1}v10\"/><circle class=\"bar\" cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"5\"/>",
        middle + 4.0,
    ));
    figure(height, "Gained pass rate with its 95 % interval: left of the line is worse", &body)
}

/// Bars from 0 to the largest value, each with its words.
pub(super) fn bars(title: &str, rows: &[(&str, f64, String)]) -> String {
    let height = ROW * rows.len() as f64;
    let most = rows.iter().map(|row| row.1).fold(f64::MIN_POSITIVE, f64::max);
    let mut body = String::new();
    for (row_idx, (name, value, words)) in rows.iter().enumerate() {
        let y = ROW * row_idx as f64 + 6.0;
        let width = (value / most * (WIDTH - LEFT - 140.0)).max(0.0);
        body.push_str(&format!(
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <rect class=\"bar b{row_idx}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"18\"/><text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            y + 13.0,
            escaped(&shortened(name)),
            LEFT + width + 6.0,
            y + 13.0,
            escaped(words),
        ));
    }
    figure(height, title, &body)
}

/// The square of a case.
pub(super) struct Cell {
    pub(super) class: &'static str,
    /// What it says.
    pub(super) words: String,
    /// The id of what it leads to.
    pub(super) target: String,
}

/// One square for each case.
pub(super) fn cells(title: &str, cells: &[Cell]) -> String {
    let height = (cells.len().div_ceil(N_CELLS_A_ROW) * CELL) as f64;
    let mut body = String::new();
    for (at, Cell { class, words, target }) in cells.iter().enumerate() {
        let (x, y) = (at % N_CELLS_A_ROW * CELL, at / N_CELLS_A_ROW * CELL);
        // What is lost has a mark too, for whoever does not see the colours.
        let mark = match *class {
            "lost" | "fail" => {
                format!("<path class=\"mark\" d=\"M{} {}l6 6m0-6l-6 6\"/>", x + 3, y + 3)
            }
            "won" => format!("<path class=\"mark\" d=\"M{} {}h6m-3-3v6\"/>", x + 3, y + 6),
            _ => String::new(),
        };
        body.push_str(&format!(
            "<a href=\"#{target}\"><title>{}</title><rect class=\"cell {class}\" x=\"{x}\" y=\"{y}\" width=\"12\" \
             height=\"12\"/>{mark}</a>",
            escaped(words)
        ));
    }
    figure(height, title, &body)
}

fn figure(height: f64, title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {height:.1}\" \
         role=\"img\" aria-label=\"{title}\">{body}</svg></figure>\n"
    )
}

fn shortened(name: &str) -> String {
    const N_CHARS: usize = 20;
    match name.char_indices().nth(N_CHARS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
