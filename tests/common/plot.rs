//! Lines over a common axis, as SVG: one panel below the other.

use std::fmt::Write as _;

const COLOURS: [&str; 4] = ["#1b6ca8", "#c0504d", "#4f9d4f", "#8064a2"];
const WIDTH: f64 = 720.0;
const PANEL: f64 = 190.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 26.0;

/// Lines with a scale of their own, from nothing up.
pub struct Panel {
    pub title: &'static str,
    pub lines: Vec<(&'static str, Vec<(f64, f64)>)>,
}

/// A number that people read, at or above this one: 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps
        .into_iter()
        .map(|step| step * power)
        .find(|round| *round >= value)
        .unwrap_or(10.0 * power)
}

/// The picture.
pub fn svg(across: &str, panels: &[Panel]) -> String {
    let height = PANEL * panels.len() as f64 + 20.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let points = || {
        panels
            .iter()
            .flat_map(|panel| &panel.lines)
            .flat_map(|line| &line.1)
    };
    let end = points().map(|point| point.0).fold(1.0, f64::max);
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value / end;
    for (number, panel) in panels.iter().enumerate() {
        let base = PANEL * number as f64;
        let (top, bottom) = (base + TOP, base + PANEL - BOTTOM);
        let values = panel
            .lines
            .iter()
            .flat_map(|line| &line.1)
            .map(|point| point.1);
        let highest = round_up(values.fold(0.0, f64::max));
        let y = |value: f64| bottom - (bottom - top) * value / highest;
        let title = panel.title;
        let _ = writeln!(
            text,
            "<text x=\"{LEFT}\" y=\"{:.0}\" font-weight=\"bold\">{title}</text>",
            top - 10.0
        );
        for step in 0..=4 {
            let value = highest * f64::from(step) / 4.0;
            let at = y(value);
            let _ = writeln!(
                text,
                "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0
            );
        }
        for step in 0..=4 {
            let value = end * f64::from(step) / 4.0;
            let _ = writeln!(
                text,
                "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{value:.0}</text>",
                x(value),
                bottom + 16.0
            );
        }
        for (number, (name, line)) in panel.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let line: Vec<String> = line
                .iter()
                .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
                .collect();
            let _ = writeln!(
                text,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\
                 <text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">{name}</text>",
                line.join(" "),
                WIDTH - RIGHT + 10.0,
                top + 12.0 + 18.0 * number as f64
            );
        }
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{across}</text>",
        x(end / 2.0),
        height - 8.0
    );
    text + "</svg>\n"
}
