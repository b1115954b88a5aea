//! Axes, lines and bars in SVG, by plotters.

use plotters::chart::ChartContext;
use plotters::coord::types::RangedCoordf64;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::series::DashedLineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::text::{escape, plain, short};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;
type Xy = Cartesian2d<RangedCoordf64, RangedCoordf64>;

/// Colours that the colour-blind tell apart (Okabe & Ito 2008), and grey.
pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(super) const ORANGE: RGBColor = RGBColor(213, 94, 0);
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
/// Darker than theirs: words are written in it, too.
pub(super) const PURPLE: RGBColor = RGBColor(160, 70, 120);
pub(super) const GREY: RGBColor = RGBColor(110, 110, 110);

const FONT: &str = "sans-serif";

/// A picture of this size, with a title and a description for whoever does not see it.
pub(super) fn draw(
    title: &str,
    description: &str,
    size: (u32, u32),
    body: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, String> {
    let mut svg = String::new();
    let drawn = (|| -> Drawn {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        body(&area.titled(&plain(title), style(15, BLACK))?)?;
        area.present()?;
        Ok(())
    })();
    drawn.map_err(|error| format!("It cannot be drawn: {error}."))?;
    Ok(accessible(&svg, title, description))
}

/// Gives the root element a role, a title and a description.
fn accessible(svg: &str, title: &str, description: &str) -> String {
    let svg = svg.replacen("<svg ", "<svg role=\"img\" ", 1);
    let told = format!("<title>{}</title>\n<desc>{}</desc>", escape(title), escape(description));
    match svg.find('>') {
        Some(end) => format!("{}\n{told}{}", &svg[..=end], &svg[end + 1..]),
        None => svg,
    }
}

pub(super) fn style(size: i32, colour: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour)
}

/// What the axes say and from where to where they go.
pub(super) struct Axes<'a> {
    pub x: &'a str,
    pub y: &'a str,
    pub x_range: (f64, f64),
    pub y_range: (f64, f64),
    /// Words in place of numbers below x.
    pub x_names: Option<&'a dyn Fn(f64) -> String>,
    /// At most so many numbers beside each axis.
    pub ticks: (usize, usize),
}

impl Default for Axes<'_> {
    fn default() -> Self {
        let unit = (0.0, 1.0);
        Axes { x: "", y: "", x_range: unit, y_range: unit, x_names: None, ticks: (6, 6) }
    }
}

/// Axes that lines, dots, bars and notes are put into.
pub(super) struct Plot<'a, 'b> {
    chart: ChartContext<'a, SVGBackend<'b>, Xy>,
}

impl<'a, 'b> Plot<'a, 'b> {
    pub fn new(area: &'a Area<'b>, axes: &Axes<'_>) -> Result<Self, Box<dyn std::error::Error>> {
        let (x, y) = (span(axes.x_range), span(axes.y_range));
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(if axes.x.is_empty() { 20 } else { 36 })
            .y_label_area_size(if axes.y.is_empty() { 34 } else { 50 })
            .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
        let number = |value: &f64| trimmed(*value);
        let name = |value: &f64| match axes.x_names {
            Some(names) => plain(&names(*value)),
            None => trimmed(*value),
        };
        let mut mesh = chart.configure_mesh();
        mesh.x_labels(axes.ticks.0)
            .y_labels(axes.ticks.1)
            .max_light_lines(0)
            .bold_line_style(RGBColor(225, 225, 225))
            .axis_style(GREY)
            .label_style(style(11, BLACK))
            .axis_desc_style(style(12, BLACK))
            .x_label_formatter(&name)
            .y_label_formatter(&number);
        if !axes.x.is_empty() {
            mesh.x_desc(axes.x);
        }
        if !axes.y.is_empty() {
            mesh.y_desc(axes.y);
        }
        mesh.draw()?;
        Ok(Plot { chart })
    }

    pub fn line(&mut self, points: &[(f64, f64)], colour: RGBColor) -> Drawn {
        self.chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        Ok(())
    }

    pub fn dashed(&mut self, points: &[(f64, f64)], colour: RGBColor) -> Drawn {
        let series = DashedLineSeries::new(points.iter().copied(), 5, 4, colour.stroke_width(1));
        self.chart.draw_series(series)?;
        Ok(())
    }

    pub fn dots(&mut self, points: &[(f64, f64)], colour: RGBColor) -> Drawn {
        let dots = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
        self.chart.draw_series(dots)?;
        Ok(())
    }

    /// Upright whiskers: (x, low, high).
    pub fn whiskers(&mut self, marks: &[(f64, f64, f64)], colour: RGBColor) -> Drawn {
        let mark = |(x, low, high): &(f64, f64, f64)| {
            PathElement::new(vec![(*x, *low), (*x, *high)], colour.stroke_width(1))
        };
        self.chart.draw_series(marks.iter().map(mark))?;
        Ok(())
    }

    /// Bars: (left, right, height) of upright ones.
    pub fn bars(&mut self, bars: &[(f64, f64, f64)], colour: RGBColor) -> Drawn {
        let bar = |(left, right, height): &(f64, f64, f64)| {
            Rectangle::new([(*left, 0.0), (*right, *height)], colour.filled())
        };
        self.chart.draw_series(bars.iter().map(bar))?;
        Ok(())
    }

    /// Words that begin at a point, or end there.
    pub fn note(&mut self, at: (f64, f64), words: &str, colour: RGBColor, ends: bool) -> Drawn {
        let side = if ends { HPos::Right } else { HPos::Left };
        let style = style(11, colour).pos(Pos::new(side, VPos::Center));
        self.chart.draw_series(std::iter::once(Text::new(plain(words), at, style)))?;
        Ok(())
    }
}

/// Lying bars, the first on top, each with a name before it and words behind it.
pub(super) fn lying_bars(area: &Area<'_>, bars: &[(String, f64, String)]) -> Drawn {
    const NAMES: i32 = 150;
    const WORDS: i32 = 60;
    let (width, height) = area.dim_in_pixel();
    let (width, height) = (width as i32 - NAMES - WORDS, height as i32 - 12);
    let most = bars.iter().map(|bar| bar.1).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let step = height / bars.len().max(1) as i32;
    for (place, (name, value, words)) in bars.iter().enumerate() {
        let top = 4 + place as i32 * step;
        let middle = top + step / 2;
        let share = if most > 0.0 && value.is_finite() { value / most } else { 0.0 };
        let end = NAMES + (share * f64::from(width)).round() as i32;
        let thick = (step * 7 / 10).clamp(2, 24) / 2;
        let corners = [(NAMES, middle - thick), (end, middle + thick)];
        area.draw(&Rectangle::new(corners, BLUE.filled()))?;
        let right = style(11, BLACK).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(plain(&short(name, 24)), (NAMES - 6, middle), right))?;
        let left = style(11, BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(plain(words), (end + 6, middle), left))?;
    }
    Ok(())
}

/// A range that axes can be made of: of finite numbers, and not empty.
fn span((low, high): (f64, f64)) -> (f64, f64) {
    let bounded = |value: f64| if value.is_finite() { value.clamp(-1e12, 1e12) } else { 0.0 };
    let (low, high) = (bounded(low), bounded(high));
    match high - low > 1e-6 * high.abs().max(1e-3) {
        true => (low, high),
        false => (low, low + low.abs().max(1.0)),
    }
}

/// A number without the digits that say nothing.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" | "" => "0".to_owned(),
        text => text.to_owned(),
    }
}
