//! From cells to grey values, or to the modality's values, a row at a time: by arithmetic where that is all there is to it,
//! else by a table with an entry for each cell.

use super::super::attributes::{Function, Modality, Photometric, PixelDescription, Voi};
use super::super::pixels::Cells;

/// What cells stand for.
pub(super) enum Shade {
    /// An even ramp: much faster than looking up each cell.
    Ramp(Ramp),
    /// One entry for each cell; NaN for padding. Its length is a power of two.
    Table(Vec<f32>),
}

impl Shade {
    /// Of a description: modality values, or, when `shown`, grey values from 0 to 1.
    pub fn new(description: &PixelDescription, cells: Cells, shown: bool) -> Self {
        match Ramp::new(description, cells, shown) {
            Some(ramp) => Self::Ramp(ramp),
            None => Self::Table(table(description, cells, shown)),
        }
    }

    /// One row.
    pub fn row(&self, cells: &[u16], values: &mut [f32]) {
        match self {
            Self::Ramp(ramp) => ramp.row(cells, values),
            Self::Table(table) => {
                let mask = table.len() - 1;
                for (value, cell) in values.iter_mut().zip(cells) {
                    *value = table[usize::from(*cell) & mask];
                }
            }
        }
    }
}

/// `(stored − base) × slope + offset`, kept within `least` and `greatest`.
///
/// The base is a whole number near the ramp's lower end, so that the difference is exact in 32 bits however far from zero
/// a narrow window lies.
pub(super) struct Ramp {
    cells: Cells,
    signed: bool,
    /// Bits to the left of the stored value in its cell, and the unused ones in all.
    left: u32,
    right: u32,
    /// What Bits Stored allows.
    stored: (f32, f32),
    base: f32,
    slope: f32,
    offset: f32,
    least: f32,
    greatest: f32,
}

impl Ramp {
    /// `None` where a look-up table, a sigmoid, a palette or padding asks for more than a ramp.
    fn new(description: &PixelDescription, cells: Cells, shown: bool) -> Option<Self> {
        /// Whole numbers up to here are exact.
        const EXACT: f64 = 8_388_608.0;
        let Modality::Linear { slope, intercept } = description.modality else {
            return None;
        };
        if description.padding.is_some()
            || matches!(description.photometric, Photometric::Palette(_))
        {
            return None;
        }
        // Grey is (modality value − black) / width.
        let (black, width, least, greatest) = match &description.voi {
            _ if !shown => (0.0, 1.0, f32::MIN, f32::MAX),
            Voi::Window {
                center,
                width,
                function: Function::Linear,
            } if *width > 1.0 => (center - 0.5 - (width - 1.0) / 2.0, width - 1.0, 0.0, 1.0),
            Voi::Window {
                center,
                width,
                function: Function::LinearExact,
            } => (center - width / 2.0, *width, 0.0, 1.0),
            _ => return None,
        };
        let steps = slope / width;
        // The stored value that becomes black; any base will do for modality values.
        let base = if shown {
            ((black - intercept) / slope).round()
        } else {
            0.0
        };
        let offset = (base * slope + intercept - black) / width;
        let usable = steps.is_finite() && steps != 0.0 && offset.is_finite() && base.abs() <= EXACT;
        let bits = u32::from(description.bits_stored);
        let stored = if description.signed {
            (
                -((1_i64 << (bits - 1)) as f32),
                ((1_i64 << (bits - 1)) - 1) as f32,
            )
        } else {
            (0.0, ((1_i64 << bits) - 1) as f32)
        };
        usable.then(|| Self {
            cells,
            signed: description.signed,
            left: 15 - u32::from(description.high_bit),
            right: 16 - bits,
            stored,
            base: base as f32,
            slope: steps as f32,
            offset: offset as f32,
            least,
            greatest,
        })
    }

    fn row(&self, cells: &[u16], values: &mut [f32]) {
        // One loop each, so that the compiler makes vectors of it.
        let (left, right) = (self.left, self.right);
        match (self.cells, self.signed) {
            (Cells::Stored, false) => {
                self.fill(cells, values, |cell| f32::from((cell << left) >> right));
            }
            (Cells::Stored, true) => self.fill(cells, values, |cell| {
                f32::from(((cell << left) as i16) >> right)
            }),
            (Cells::Number, false) => {
                self.fill(cells, values, |cell| self.allowed(f32::from(cell)));
            }
            (Cells::Number, true) => {
                self.fill(cells, values, |cell| self.allowed(f32::from(cell as i16)));
            }
        }
    }

    fn allowed(&self, number: f32) -> f32 {
        within(number, self.stored.0, self.stored.1)
    }

    fn fill(&self, cells: &[u16], values: &mut [f32], stored: impl Fn(u16) -> f32) {
        for (value, cell) in values.iter_mut().zip(cells) {
            let ramp = (stored(*cell) - self.base) * self.slope + self.offset;
            *value = within(ramp, self.least, self.greatest);
        }
    }
}

/// `value` no less than `least` and no more than `greatest`; `least` for what is no number, as `value.max(least)` has it.
///
/// Two plain comparisons, each one instruction for a whole vector: `max` and `min` would look for what is no number on both
/// sides, and take twice as long for it.
#[inline]
fn within(value: f32, least: f32, greatest: f32) -> f32 {
    let raised = if value > least { value } else { least };
    if raised < greatest { raised } else { greatest }
}

/// What each cell stands for: a modality value, or, when `shown`, a grey value from 0 to 1. Padding is NaN.
fn table(description: &PixelDescription, cells: Cells, shown: bool) -> Vec<f32> {
    let wide = description.bits_allocated > 8 || cells == Cells::Number;
    let range: std::ops::RangeInclusive<u16> = if wide { 0..=u16::MAX } else { 0..=255 };
    range
        .map(|cell| {
            stored_value(description, cells, cell).map_or(f32::NAN, |value| {
                let value = modality_value(description, value);
                if shown {
                    shown_value(&description.voi, value) as f32
                } else {
                    value as f32
                }
            })
        })
        .collect()
}

/// A cell's stored value; `None` for padding.
fn stored_value(description: &PixelDescription, cells: Cells, cell: u16) -> Option<i32> {
    let bits = u32::from(description.bits_stored);
    let (least, greatest) = if description.signed {
        (-(1_i32 << (bits - 1)), (1_i32 << (bits - 1)) - 1)
    } else {
        (0, ((1_i64 << bits) - 1) as i32)
    };
    let whole = if !description.signed {
        i32::from(cell)
    } else if cells == Cells::Stored && description.bits_allocated == 8 {
        i32::from(cell as u8 as i8)
    } else {
        i32::from(cell as i16)
    };
    let value = match cells {
        Cells::Number => whole.clamp(least, greatest),
        Cells::Stored => {
            let low = i32::from(cell >> (description.high_bit + 1 - description.bits_stored))
                & ((1 << bits) - 1);
            if low > greatest {
                low - (1 << bits)
            } else {
                low
            }
        }
    };
    let padding = description.padding.is_some_and(|(first, last)| {
        // A padding value that does not fit into Bits Stored fills the whole cell.
        let fits = first >= least && last <= greatest;
        let compared = if fits { value } else { whole };
        (first..=last).contains(&compared)
    });
    (!padding).then_some(value)
}

fn modality_value(description: &PixelDescription, value: i32) -> f64 {
    if let Photometric::Palette(palette) = &description.photometric {
        let [red, green, blue] = palette
            .each_ref()
            .map(|lut| f64::from(lut.at(value.into())) / lut.top().max(1.0));
        return 0.299 * red + 0.587 * green + 0.114 * blue;
    }
    match &description.modality {
        Modality::Linear { slope, intercept } => f64::from(value) * slope + intercept,
        Modality::Table(lut) => f64::from(lut.at(value.into())),
    }
}

fn shown_value(voi: &Voi, value: f64) -> f64 {
    let shown = match voi {
        Voi::WholeRange => value,
        Voi::Table(lut) => f64::from(lut.at(value)) / lut.top().max(1.0),
        Voi::Window {
            center,
            width,
            function: Function::Linear,
        } => {
            let (center, width) = (center - 0.5, width - 1.0);
            // At width 1 the slope is infinite (PS3.3 §C.11.2.1.2.1).
            if value <= center - width / 2.0 {
                0.0
            } else if value > center + width / 2.0 {
                1.0
            } else {
                (value - center) / width + 0.5
            }
        }
        Voi::Window {
            center,
            width,
            function: Function::LinearExact,
        } => (value - center) / width + 0.5,
        Voi::Window {
            center,
            width,
            function: Function::Sigmoid,
        } => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
    };
    shown.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn description(
        bits: (u16, u16),
        signed: bool,
        slope: f64,
        intercept: f64,
        voi: Voi,
    ) -> PixelDescription {
        PixelDescription {
            bits_allocated: 16,
            bits_stored: bits.0,
            high_bit: bits.1,
            signed,
            modality: Modality::Linear { slope, intercept },
            voi,
            ..PixelDescription::monochrome2(1, 1, 16)
        }
    }

    #[test]
    fn what_is_kept_within_bounds_is_what_max_and_min_give() {
        let numbers = [-1.0, 0.0, 0.25, 1.0, 2.0, f32::INFINITY, f32::NAN];
        for value in numbers {
            let low = value.max(0.0);
            assert_eq!(within(value, 0.0, 1.0), low.min(1.0), "{value}");
        }
    }

    proptest! {
        #[test]
        fn a_ramp_gives_what_the_table_gives(
            stored in 1_u16..=16,
            above in 0_u16..=15,
            signed: bool,
            number: bool,
            slope in prop_oneof![Just(1.0), Just(-1.0), 0.01_f64..20.0],
            intercept in prop_oneof![Just(0.0), Just(-1024.0), -70_000.0_f64..70_000.0],
            center in -70_000.0_f64..140_000.0,
            width in 1.5_f64..70_000.0,
            exact: bool,
            shown: bool,
            cells in proptest::collection::vec(any::<u16>(), 64),
        ) {
            let high_bit = (stored - 1 + above).min(15);
            let function = if exact { Function::LinearExact } else { Function::Linear };
            let voi = Voi::Window { center, width, function };
            let description = description((stored, high_bit), signed, slope, intercept, voi);
            let kind = if number { Cells::Number } else { Cells::Stored };
            let Some(ramp) = Ramp::new(&description, kind, shown) else {
                return Ok(());
            };
            let table = table(&description, kind, shown);
            let mut values = vec![0.0; cells.len()];
            ramp.row(&cells, &mut values);
            for (value, cell) in values.iter().zip(&cells) {
                let expected = table[usize::from(*cell)];
                let tolerance = if shown { 2e-6 } else { 1e-6 * expected.abs().max(70_000.0) };
                prop_assert!((value - expected).abs() <= tolerance, "{cell}: {value}, not {expected}");
            }
        }
    }
}
