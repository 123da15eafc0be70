//! One plot of lines as an SVG, drawn by plotters.
//!
//! Titles and legends are the page's: they wrap and can be read aloud there.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::axis::{Axis, Tick};
use super::ink;

/// A plot's parts, in the values of its axes.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Along the x axis: what was not measured.
    pub(super) shaded: Vec<(f64, f64)>,
    /// At most [`ink::LINES_MAX`]: more could not be told apart.
    pub(super) lines: Vec<Line>,
}

/// One line, which may have gaps.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
}

/// The room that a plot has on a page, in the page's pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    width: u32,
    height: u32,
}

/// Across a wide page.
pub(super) const WIDE: Size = Size { width: 920, height: 300 };
/// Across a phone.
pub(super) const NARROW: Size = Size { width: 350, height: 250 };
/// One of two beside each other, and across a phone.
pub(super) const HALF: Size = Size { width: 430, height: 210 };
/// One of three beside each other, and across a phone.
pub(super) const THIRD: Size = Size { width: 290, height: 170 };

/// Plotters places by whole pixels, which makes steps of gentle slopes: it draws everything so much larger, and
/// the page shows it at its size.
const FINE: u32 = 8;
/// The size of labels, in the page's pixels.
const LABEL: u32 = 12;
/// What plotters divides a font's size by when it writes it to an SVG.
const FONT_SCALE: f64 = 1.24;
/// The room of a label along the x axis.
const LABEL_ROOM: u32 = 72;
/// The same along the y axis.
const LABEL_HEIGHT: u32 = 32;

impl Line {
    /// A line through points in order, which has a gap wherever one has no value.
    pub(super) fn new(name: impl Into<String>, points: impl Iterator<Item = (f64, Option<f64>)>) -> Self {
        let mut pieces = vec![Vec::new()];
        for (x, y) in points {
            match (y.filter(|y| y.is_finite()), pieces.last_mut()) {
                (Some(y), Some(piece)) => piece.push((x, y)),
                _ => pieces.push(Vec::new()),
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        Self { name: name.into(), pieces }
    }

    /// All values of it.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        self.pieces.iter().flatten().map(|(_, y)| *y)
    }
}

impl Chart {
    /// Whether there is nothing to draw.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.pieces.is_empty())
    }

    /// The plot as an SVG element.
    ///
    /// # Errors
    /// When plotters refuses to draw it.
    pub(super) fn svg(&self, size: Size) -> Result<String> {
        let mut text = String::new();
        let area = SVGBackend::with_string(&mut text, (size.width * FINE, size.height * FINE));
        self.draw(size, &area.into_drawing_area())?;
        Ok(text)
    }

    fn draw(&self, size: Size, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<()> {
        let x = Side { ends: self.x.ends(), ticks: self.x.ticks(room(size.width, LABEL_ROOM)) };
        let y = Side { ends: self.y.ends(), ticks: self.y.ticks(room(size.height, LABEL_HEIGHT)) };
        let ((left, right), (bottom, top)) = (x.ends, y.ends);
        let mut plot = ChartBuilder::on(area)
            .margin_top(8 * FINE)
            .margin_right(20 * FINE)
            .x_label_area_size(26 * FINE)
            .y_label_area_size(label_width(&y.ticks) * FINE)
            .build_cartesian_2d(x, y)?;
        plot.draw_series(self.shaded.iter().map(|(from, to)| {
            Rectangle::new(
                [(self.x.place(*from), bottom), (self.x.place(*to), top)],
                ink::SHADE.color().filled(),
            )
        }))?;
        let font = ("sans-serif", f64::from(LABEL * FINE) * FONT_SCALE).into_font();
        let label = font.color(&ink::LABEL.color());
        plot.configure_mesh()
            .disable_x_mesh()
            .bold_line_style(ink::GRID.color().stroke_width(FINE))
            .light_line_style(TRANSPARENT)
            .axis_style(ink::GRID.color().stroke_width(FINE))
            .set_all_tick_mark_size(4 * FINE)
            .x_label_style(label.clone())
            .y_label_style(label)
            .draw()?;
        let apart = ((right - left) / f64::from(size.width * 2), (top - bottom) / f64::from(size.height * 2));
        // The first line is drawn last, so that it lies above the others.
        for (line, ink) in self.lines.iter().zip(ink::LINES).rev() {
            let style = ink.color().stroke_width(FINE * 7 / 4);
            let placed = line.pieces.iter().map(|piece| self.placed(piece, apart));
            plot.draw_series(placed.map(|piece| PathElement::new(piece, style)))?;
        }
        area.present()?;
        Ok(())
    }

    /// Where a piece's points stand, without those that nobody could tell from the one before.
    fn placed(&self, piece: &[(f64, f64)], apart: (f64, f64)) -> Vec<(f64, f64)> {
        let mut placed: Vec<(f64, f64)> = Vec::new();
        for (at, (x, y)) in piece.iter().enumerate() {
            let point = (self.x.place(*x), self.y.place(*y));
            let close =
                |last: &(f64, f64)| (point.0 - last.0).abs() < apart.0 && (point.1 - last.1).abs() < apart.1;
            if at + 1 == piece.len() || !placed.last().is_some_and(close) {
                placed.push(point);
            }
        }
        // A single moment is a short stroke: a path through one point would not be seen.
        if let [(x, y)] = placed[..] {
            return vec![(x - apart.0 * 2.0, y), (x + apart.0 * 2.0, y)];
        }
        placed
    }
}

fn room(length: u32, label: u32) -> usize {
    usize::try_from(length / label).unwrap_or(2)
}

/// An axis as plotters asks for it: evenly placed, with the names that were chosen.
struct Side {
    ends: (f64, f64),
    ticks: Vec<Tick>,
}

impl Ranged for Side {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(place, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let light = hint.weight().allow_light_points();
        self.ticks.iter().filter(|_| !light).map(|tick| tick.place).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.ends.0..self.ends.1
    }
}

impl ValueFormatter<f64> for Side {
    fn format(place: &f64) -> String {
        place.to_string()
    }

    fn format_ext(&self, place: &f64) -> String {
        let named = self.ticks.iter().find(|tick| tick.place.total_cmp(place).is_eq());
        named.map_or_else(String::new, |tick| tick.label.clone())
    }
}

/// Labels are of one font, whose digits are less than two thirds as wide as they are high.
fn label_width(ticks: &[Tick]) -> u32 {
    let longest = ticks.iter().map(|tick| tick.label.chars().count()).max().unwrap_or(0);
    u32::try_from(longest).unwrap_or(0).clamp(2, 16) * LABEL * 5 / 8 + 12
}
