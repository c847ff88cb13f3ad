//! Plots of a few points as inline SVG: axes, lines, dots with whiskers. Colours come from the page's style sheet by class
//! (`a`, `b`, `guide`), so that a plot follows light and dark with the text around it.

use std::fmt::Write as _;

use crate::contact_sheet::escape;

/// The whole plot, in its own units; a page scales it.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 320.0;
/// Left, right, top and bottom of the plotting area.
const AREA: [f64; 4] = [58.0, 456.0, 14.0, 268.0];

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it tells, with its unit.
    pub label: String,
    /// Its lower end.
    pub low: f64,
    /// Its upper end, above the lower one.
    pub high: f64,
    /// Numbers are proportions, written in percent.
    pub percent: bool,
}

impl Axis {
    /// An axis that has room for these values and begins and ends at round numbers within `least..most`; values that are
    /// all equal get some room around them.
    pub fn around(
        label: &str,
        values: impl IntoIterator<Item = f64>,
        [least, most]: [f64; 2],
        percent: bool,
    ) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-6 {
            (low, high) = (low - 0.005, high + 0.005);
        }
        let step = step(high - low);
        Self {
            label: label.to_owned(),
            low: ((low / step).floor() * step).max(least),
            high: ((high / step).ceil() * step).min(most),
            percent,
        }
    }

    /// Round numbers along the axis.
    fn ticks(&self) -> Vec<f64> {
        let step = step(self.high - self.low);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|k| k as f64 * step).collect()
    }

    fn text(&self, tick: f64) -> String {
        let (scale, unit) = if self.percent {
            (100.0, " %")
        } else {
            (1.0, "")
        };
        let decimals = (-(step(self.high - self.low) * scale).log10().floor()).max(0.0) as usize;
        format!("{:.decimals$}{unit}", tick * scale)
    }

    /// Where a value lies, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, so that four to ten of them make the range.
fn step(range: f64) -> f64 {
    let power = 10f64.powf((range.max(1e-12) / 5.0).log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|times| range / (times * power) <= 7.0);
    times.unwrap_or(10.0) * power
}

/// What is drawn.
#[derive(Clone, Debug)]
pub enum Mark {
    /// A line through points.
    Line(Vec<(f64, f64)>),
    /// Points, each with a vertical range.
    Whiskers(Vec<(f64, f64, [f64; 2])>),
    /// A dashed line to compare with, and what it is.
    Guide(Vec<(f64, f64)>, String),
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// For those who cannot see it.
    pub title: String,
    /// Along the bottom.
    pub x: Axis,
    /// Along the left.
    pub y: Axis,
    /// What is drawn, the last on top.
    pub marks: Vec<Mark>,
}

impl Plot {
    /// The `<svg>` element.
    pub fn svg(&self) -> String {
        let title = escape(&self.title);
        let mut svg = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>\n"
        );
        self.axes(&mut svg);
        for mark in &self.marks {
            self.draw(&mut svg, mark);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, right, top, bottom] = AREA;
        (
            left + self.x.place(x) * (right - left),
            bottom - self.y.place(y) * (bottom - top),
        )
    }

    fn axes(&self, svg: &mut String) {
        let [left, right, top, bottom] = AREA;
        for tick in self.x.ticks() {
            let (x, _) = self.at(tick, self.y.low);
            let text = self.x.text(tick);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                bottom + 17.0
            );
        }
        for tick in self.y.ticks() {
            let (_, y) = self.at(self.x.low, tick);
            let text = self.y.text(tick);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                left - 7.0,
                y + 4.0
            );
        }
        let (middle, centre) = (f64::midpoint(left, right), f64::midpoint(top, bottom));
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{left} {top}V{bottom}H{right}\"/>\
             <text class=\"label\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"label\" transform=\"translate(12 {centre:.1})rotate(-90)\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 14.0,
            escape(&self.x.label),
            escape(&self.y.label)
        );
    }

    fn draw(&self, svg: &mut String, mark: &Mark) {
        match mark {
            Mark::Line(points) => {
                let _ = writeln!(svg, "<path class=\"a\" d=\"{}\"/>", self.path(points));
                if points.len() <= 40 {
                    points.iter().for_each(|(x, y)| self.dot(svg, *x, *y));
                }
            }
            Mark::Whiskers(points) => {
                for (x, y, [low, high]) in points {
                    let ends = [(*x, *low), (*x, *high)];
                    let _ = writeln!(svg, "<path class=\"whisker\" d=\"{}\"/>", self.path(&ends));
                    self.dot(svg, *x, *y);
                }
            }
            Mark::Guide(points, text) => {
                let _ = writeln!(svg, "<path class=\"guide\" d=\"{}\"/>", self.path(points));
                if let Some((x, y)) = points.last().filter(|_| !text.is_empty()) {
                    let (x, y) = self.at(*x, *y);
                    // Above the line's end, but never outside the plot.
                    let y = if y < AREA[2] + 20.0 {
                        y + 16.0
                    } else {
                        y - 6.0
                    };
                    let _ = writeln!(
                        svg,
                        "<text class=\"note\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>",
                        x.max(AREA[0] + 90.0) - 4.0,
                        escape(text)
                    );
                }
            }
        }
    }

    fn dot(&self, svg: &mut String, x: f64, y: f64) {
        let (x, y) = self.at(x, y);
        let _ = writeln!(
            svg,
            "<circle class=\"a\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
        );
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let finite = points
            .iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite());
        let mut path = String::new();
        for (k, (x, y)) in finite.enumerate() {
            let (x, y) = self.at(*x, *y);
            let _ = write!(path, "{}{x:.1} {y:.1}", if k == 0 { 'M' } else { 'L' });
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_axis_begins_and_ends_at_round_numbers_and_says_them_briefly() {
        let axis = Axis::around("error", [0.0, 0.0137], [0.0, 1.0], true);
        assert_eq!((axis.low, (axis.high * 1e6).round()), (0.0, 14000.0));
        let texts: Vec<String> = axis.ticks().iter().map(|t| axis.text(*t)).collect();
        assert_eq!(texts[..3], ["0.0 %", "0.2 %", "0.4 %"].map(String::from));
        let epochs = Axis::around("epoch", [1.0, 20.0], [0.0, 1e9], false);
        let texts: Vec<String> = epochs.ticks().iter().map(|t| epochs.text(*t)).collect();
        assert_eq!(texts, ["0", "5", "10", "15", "20"]);
    }

    #[test]
    fn a_plot_escapes_its_labels() {
        let axis = Axis::around("<script>", [], [0.0, 1.0], false);
        let plot = Plot {
            title: "a \"b\"".into(),
            x: axis.clone(),
            y: axis,
            marks: vec![Mark::Guide(vec![(0.0, 0.0), (1.0, 1.0)], "<b>".into())],
        };
        let svg = plot.svg();
        assert!(!svg.contains("<script") && !svg.contains("<b>") && svg.contains("&quot;b&quot;"));
    }

    proptest! {
        #[test]
        fn everything_is_drawn_inside_the_plot(
            points in proptest::collection::vec((-1e6f64..1e6, -1e6f64..1e6), 1..50), width in 1e-9f64..1e6,
        ) {
            let x = Axis::around("x", points.iter().map(|p| p.0), [f64::MIN, f64::MAX], false);
            let y = Axis::around("y", [0.0, width], [f64::MIN, f64::MAX], true);
            let plot = Plot { title: String::new(), x, y, marks: Vec::new() };
            prop_assert!(plot.x.ticks().len() <= 12 && plot.y.ticks().len() <= 12);
            for (x, y) in &points {
                let (x, y) = plot.at(*x, *y);
                prop_assert!((AREA[0]..=AREA[1]).contains(&x) && (AREA[2]..=AREA[3]).contains(&y));
            }
        }
    }
}
