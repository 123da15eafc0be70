//! The colours of the plots. A plot is drawn in those for a light page; the page's style puts those for a dark
//! one in their place, which works because a style wins over what an SVG's elements say themselves.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// One colour, as 0xRRGGBB.
#[derive(Clone, Copy)]
pub(super) struct Ink {
    name: &'static str,
    light: u32,
    dark: u32,
}

/// Labels and axes.
pub(super) const LABEL: Ink = Ink { name: "label", light: 0x5B_6472, dark: 0x9B_A5B4 };
/// Lines of the grid.
pub(super) const GRID: Ink = Ink { name: "grid", light: 0xE4_E7EC, dark: 0x2C_333D };
/// Behind what is not measured.
pub(super) const SHADE: Ink = Ink { name: "shade", light: 0xF1_F3F6, dark: 0x20_262E };

/// How many lines a plot can have and still be read.
pub(super) const LINES_MAX: usize = LINES.len();
/// The lines of a plot, in order. Neighbours differ in lightness, too, for those who see colours differently.
pub(super) const LINES: [Ink; 8] = [
    Ink { name: "line0", light: 0x1F_5FC4, dark: 0x78_B0FF },
    Ink { name: "line1", light: 0xD0_6A0A, dark: 0xFF_A95C },
    Ink { name: "line2", light: 0x0F_7A55, dark: 0x55_D0A2 },
    Ink { name: "line3", light: 0xA3_3FB0, dark: 0xE3_9BEE },
    Ink { name: "line4", light: 0x3A_B0C8, dark: 0x2F_9DB4 },
    Ink { name: "line5", light: 0x9C_1C3C, dark: 0xFF_8BA0 },
    Ink { name: "line6", light: 0x9A_8200, dark: 0xE6_D25A },
    Ink { name: "line7", light: 0x4A_5568, dark: 0xC3_CBD8 },
];

impl Ink {
    /// As a plot is drawn with it.
    pub(super) const fn color(self) -> RGBColor {
        let [_, red, green, blue] = self.light.to_be_bytes();
        RGBColor(red, green, blue)
    }

    /// The name of the style's property.
    pub(super) const fn name(self) -> &'static str {
        self.name
    }
}

/// The rules that name the colours and put them into the plots.
pub(super) fn rules() -> String {
    let (mut light, mut dark, mut plots) = (String::new(), String::new(), String::new());
    for ink in [LABEL, GRID, SHADE].iter().chain(&LINES) {
        let Ink { name, light: by_day, dark: by_night } = ink;
        // Writing to a string cannot fail.
        let _ = write!(light, "--{name}:#{by_day:06X};");
        let _ = write!(dark, "--{name}:#{by_night:06X};");
        let _ = writeln!(plots, "svg [stroke=\"#{by_day:06X}\"]{{stroke:var(--{name})}}");
        let _ = writeln!(plots, "svg [fill=\"#{by_day:06X}\"]{{fill:var(--{name})}}");
        let _ = writeln!(plots, ".{name}{{background:var(--{name})}}");
    }
    format!(":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{plots}")
}
