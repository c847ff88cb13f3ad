//! What the header says about the pixels: Image Pixel (PS3.3 §C.7.6.3), Modality LUT (§C.11.1), VOI LUT (§C.11.2).

use std::collections::HashMap;

use super::Fault;
use super::dataset::Value;
use super::encoding::Tag;
use crate::domain::Reason;

/// More pixels than any detector has; what would need more is refused before anything is allocated.
pub const MAX_PIXELS: u64 = 100_000_000;

/// The same for colours: 6000 × 6000, more than photographs and captured screens have. Codecs hold three samples of each pixel
/// at once, some of them in two forms.
pub const MAX_COLOUR_PIXELS: u64 = 36_000_000;

/// How stored values are to be understood.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelDescription {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
    /// Samples per Pixel, 1 or 3.
    pub samples: u16,
    /// Bits Allocated, 8 or 16.
    pub bits_allocated: u16,
    /// Bits Stored, 1 to Bits Allocated.
    pub bits_stored: u16,
    /// High Bit, at least Bits Stored − 1, below Bits Allocated.
    pub high_bit: u16,
    /// Pixel Representation: two's complement.
    pub signed: bool,
    /// Photometric Interpretation.
    pub photometric: Photometric,
    /// Planar Configuration 1: one plane a colour instead of one triple a pixel.
    pub planar: bool,
    /// From stored values to the modality's values.
    pub modality: Modality,
    /// From the modality's values to what is shown.
    pub voi: Voi,
    /// Stored values from the first to the second are padding (Pixel Padding Value and Range Limit).
    pub padding: Option<(i32, i32)>,
    /// Presentation LUT Shape is INVERSE.
    pub inverse: bool,
    /// How tall a pixel is, measured by its width; 1 for nearly all.
    pub aspect: f64,
    /// An overlay is said to lie in bits of the pixels above the stored ones (Overlay Bit Position; PS3.5 §8.1.2, given up since).
    pub embedded_overlay: bool,
}

/// Photometric Interpretation (PS3.3 §C.7.6.3.1.2).
#[derive(Clone, Debug, PartialEq)]
pub enum Photometric {
    /// The lowest value is white.
    Monochrome1,
    /// The lowest value is black.
    Monochrome2,
    /// Red, green, blue.
    Rgb,
    /// `YBR_FULL`, `YBR_ICT`, `YBR_RCT`: luminance first.
    Ybr,
    /// `YBR_FULL_422`: two pixels share their colour.
    Ybr422,
    /// Indices into a palette.
    Palette(Box<[Lut; 3]>),
}

/// Modality LUT module: a table wins over rescale slope and intercept.
#[derive(Clone, Debug, PartialEq)]
pub enum Modality {
    /// Value × slope + intercept.
    Linear {
        /// Rescale Slope.
        slope: f64,
        /// Rescale Intercept.
        intercept: f64,
    },
    /// Modality LUT Sequence.
    Table(Lut),
}

impl Modality {
    /// The least and the greatest value that it can make of stored values from the first to the second.
    fn range(&self, stored: (f64, f64)) -> (f64, f64) {
        match self {
            Self::Linear { slope, intercept } => {
                let (first, last) = (stored.0 * slope + intercept, stored.1 * slope + intercept);
                (first.min(last), first.max(last))
            }
            Self::Table(_) => OUTPUTS,
        }
    }
}

/// The values that a look-up table's entries can have.
const OUTPUTS: (f64, f64) = (0.0, 65535.0);

/// The least and the greatest value that so many bits hold.
fn stored_range(bits_stored: u32, signed: bool) -> (f64, f64) {
    let values = f64::from(1_u32 << bits_stored);
    if signed {
        (-values / 2.0, values / 2.0 - 1.0)
    } else {
        (0.0, values - 1.0)
    }
}

/// VOI LUT module: a table wins over windows, and the first of several is taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Voi {
    /// Neither: everything from the least to the greatest value is shown.
    WholeRange,
    /// Window Center and Width.
    Window {
        /// Window Center.
        center: f64,
        /// Window Width, above 0.
        width: f64,
        /// VOI LUT Function.
        function: Function,
    },
    /// VOI LUT Sequence.
    Table(Lut),
}

/// VOI LUT Function (PS3.3 §C.11.2.1.2, §C.11.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// From `c − 0.5 − (w − 1)/2` to `c − 0.5 + (w − 1)/2`.
    Linear,
    /// From `c − w/2` to `c + w/2`.
    LinearExact,
    /// `1 / (1 + exp(−4 (x − c)/w))`.
    Sigmoid,
}

/// A look-up table (PS3.3 §C.11.1.1): what lies before its first input has the first output, and so on at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Lut {
    /// The input that the first entry stands for.
    pub first: i32,
    /// Bits of an output, 1 to 16.
    pub bits: u16,
    /// Outputs; never empty.
    pub entries: Vec<u16>,
}

impl Lut {
    /// The output for an input.
    pub fn at(&self, input: f64) -> u16 {
        let index =
            (input.round() - f64::from(self.first)).clamp(0.0, (self.entries.len() - 1) as f64);
        self.entries[index as usize]
    }

    /// The greatest output that the bits allow; a table with greater entries says so itself.
    pub fn top(&self) -> f64 {
        let top = self.entries.iter().copied().max().unwrap_or(0);
        f64::from(u16::MAX >> (16 - self.bits)).max(f64::from(top))
    }
}

impl PixelDescription {
    /// Unsigned grey pixels with the lowest value black, no padding, and everything from the least to the greatest
    /// value shown.
    pub fn monochrome2(rows: u32, columns: u32, bits_stored: u16) -> Self {
        Self {
            rows,
            columns,
            samples: 1,
            bits_allocated: if bits_stored > 8 { 16 } else { 8 },
            bits_stored,
            high_bit: bits_stored - 1,
            signed: false,
            photometric: Photometric::Monochrome2,
            planar: false,
            modality: Modality::Linear {
                slope: 1.0,
                intercept: 0.0,
            },
            voi: Voi::WholeRange,
            padding: None,
            inverse: false,
            aspect: 1.0,
            embedded_overlay: false,
        }
    }

    /// Samples of all pixels of a frame.
    pub(super) fn samples_in_all(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.columns) * u64::from(self.samples)
    }

    /// Reads the header's values; a fault when they make no picture that radsort can decode.
    pub(super) fn read(values: &HashMap<(Tag, Tag), Value>) -> Result<Self, Fault> {
        let get = |tag: Tag| values.get(&(0, tag));
        let malformed = |text: &str| Fault::new(Reason::Malformed, text);
        let cannot = |text: String| Fault::new(Reason::CannotDecode, text);

        let number = |tag| get(tag).and_then(Value::unsigned);
        let rows = number(0x0028_0010)
            .filter(|n| *n > 0)
            .ok_or_else(|| malformed("Rows is absent or 0"))?;
        let columns = number(0x0028_0011)
            .filter(|n| *n > 0)
            .ok_or_else(|| malformed("Columns is absent or 0"))?;
        let samples = number(0x0028_0002).unwrap_or(1);
        let (most, kind) = if samples == 1 {
            (MAX_PIXELS, "pixels")
        } else {
            (MAX_COLOUR_PIXELS, "pixels in colour")
        };
        if u64::from(rows) * u64::from(columns) > most {
            return Err(cannot(format!(
                "{columns}×{rows} {kind} are more than the {most} that are decoded"
            )));
        }
        let bits_allocated =
            number(0x0028_0100).ok_or_else(|| malformed("Bits Allocated is absent"))?;
        if bits_allocated != 8 && bits_allocated != 16 {
            return Err(cannot(format!(
                "{bits_allocated} bits a pixel; 8 and 16 are decoded"
            )));
        }
        let bits_stored = number(0x0028_0101).unwrap_or(bits_allocated);
        let high_bit = number(0x0028_0102).unwrap_or_else(|| bits_stored.saturating_sub(1));
        if bits_stored == 0 || high_bit >= bits_allocated || high_bit + 1 < bits_stored {
            return Err(malformed(
                "Bits Allocated, Bits Stored and High Bit contradict each other",
            ));
        }
        let signed = number(0x0028_0103) == Some(1);

        let photometric = get(0x0028_0004).map(Value::text).unwrap_or_default();
        let photometric = match (photometric.as_str(), samples) {
            ("MONOCHROME1", 1) => Photometric::Monochrome1,
            ("MONOCHROME2" | "", 1) => Photometric::Monochrome2,
            ("PALETTE COLOR", 1) => Photometric::Palette(Box::new(palette(values)?)),
            ("RGB" | "", 3) => Photometric::Rgb,
            ("YBR_FULL" | "YBR_ICT" | "YBR_RCT", 3) => Photometric::Ybr,
            ("YBR_FULL_422", 3) => Photometric::Ybr422,
            _ => {
                return Err(cannot(format!(
                    "photometric interpretation with {samples} samples a pixel not known"
                )));
            }
        };

        let stored = stored_range(bits_stored, signed);
        let modality_table = lut(values, 0x0028_3000, stored);
        let modality = modality_table.map_or_else(
            || {
                let slope = get(0x0028_1053)
                    .and_then(Value::decimal)
                    .filter(|slope| *slope != 0.0)
                    .unwrap_or(1.0);
                Modality::Linear {
                    slope,
                    intercept: get(0x0028_1052).and_then(Value::decimal).unwrap_or(0.0),
                }
            },
            Modality::Table,
        );
        let voi = lut(values, 0x0028_3010, modality.range(stored))
            .map_or_else(|| window(values), Voi::Table);

        // One of the pixels: negative where they are, also where it says US.
        let cell = |value: &Value| {
            let number = value.sample(signed)?;
            Some(if signed {
                i32::from(number as i16)
            } else {
                number
            })
        };
        let padding = get(0x0028_0120).and_then(cell).map(|first| {
            let last = get(0x0028_0121).and_then(cell).unwrap_or(first);
            (first.min(last), first.max(last))
        });
        let description = Self {
            rows,
            columns,
            samples: samples as u16,
            bits_allocated: bits_allocated as u16,
            bits_stored: bits_stored as u16,
            high_bit: high_bit as u16,
            signed,
            photometric,
            planar: number(0x0028_0006) == Some(1),
            modality,
            voi,
            padding,
            inverse: get(0x2050_0020).is_some_and(|value| value.text() == "INVERSE"),
            aspect: aspect(values),
            embedded_overlay: (0..16)
                .filter_map(|n| number(0x6000_0102 + (n << 17)))
                .any(|bit| bit > 0),
        };
        Ok(match description.photometric {
            Photometric::Palette(_) => description.of_luminance(1.0),
            _ => description,
        })
    }

    /// The same where values are, or will be, luminance made from colours: everything from 0 to `top` is shown. What a header
    /// says of grey values (rescale, window or VOI LUT, padding, Presentation LUT Shape) is not meant for colours.
    pub(super) fn of_luminance(self, top: f64) -> Self {
        Self {
            modality: Modality::Linear {
                slope: 1.0,
                intercept: 0.0,
            },
            voi: Voi::Window {
                center: top / 2.0,
                width: top,
                function: Function::LinearExact,
            },
            padding: None,
            inverse: false,
            ..self
        }
    }

    /// Bytes of one frame as Native Pixel Data.
    pub fn frame_bytes(&self) -> u64 {
        let pixels = u64::from(self.rows) * u64::from(self.columns);
        // Two luminances, then one pair of colour differences, stand for two pixels.
        let samples = if self.photometric == Photometric::Ybr422 {
            2
        } else {
            u64::from(self.samples)
        };
        pixels * samples * u64::from(self.bits_allocated / 8)
    }
}

impl Value {
    /// The text without its padding, at most 256 characters: UTF-8 if it is that, Latin-1 otherwise.
    pub fn text(&self) -> String {
        self.characters()
            .trim_matches(['\0', ' '])
            .chars()
            .filter(|c| !c.is_control())
            .take(256)
            .collect()
    }

    /// [`Self::text`] of a UID: a control character inside is not left out, which would make it another one.
    pub fn identifier(&self) -> String {
        let shown = |c: char| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        self.characters()
            .trim_matches(|c: char| c == ' ' || c.is_control())
            .chars()
            .map(shown)
            .take(256)
            .collect()
    }

    fn characters(&self) -> String {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => self.bytes.iter().map(|byte| char::from(*byte)).collect(),
        }
    }

    /// The first number of a US value, or of an IS value.
    pub fn unsigned(&self) -> Option<u32> {
        match (&self.vr, self.bytes.as_slice()) {
            (b"IS" | b"DS", _) => self
                .decimal()
                .filter(|n| (0.0..4e9).contains(n))
                .map(|n| n as u32),
            (b"UL" | b"SL", [a, b, c, d, ..]) => {
                let (high, low) = (self.encoding.u16([*c, *d]), self.encoding.u16([*a, *b]));
                let (high, low) = if self.encoding.big_endian {
                    (low, high)
                } else {
                    (high, low)
                };
                Some(u32::from(high) << 16 | u32::from(low))
            }
            (_, [a, b, ..]) => Some(self.encoding.u16([*a, *b]).into()),
            _ => None,
        }
    }

    /// The first number of a DS or IS value, when it is finite. Some devices write a decimal comma; what may be a thousand
    /// (`1,024`) is no number.
    pub fn decimal(&self) -> Option<f64> {
        self.decimal_at(0)
    }

    fn decimal_at(&self, index: usize) -> Option<f64> {
        let text = self.text();
        let number = text.split('\\').nth(index)?.trim();
        let may_be_thousands = number.split_once(',').is_some_and(|(whole, rest)| {
            rest.len() == 3 && whole.trim_start_matches(['-', '+']) != "0"
        });
        if may_be_thousands {
            return None;
        }
        number
            .replace(',', ".")
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
    }

    /// A US or SS value as the sample that it stands for.
    fn sample(&self, signed: bool) -> Option<i32> {
        let [a, b, ..] = self.bytes[..] else {
            return None;
        };
        let number = self.encoding.u16([a, b]);
        let signed = match &self.vr {
            b"SS" => true,
            b"US" => false,
            _ => signed,
        };
        Some(if signed {
            i32::from(number as i16)
        } else {
            number.into()
        })
    }

    fn words(&self) -> Vec<u16> {
        self.bytes
            .as_chunks()
            .0
            .iter()
            .map(|pair| self.encoding.u16(*pair))
            .collect()
    }
}

fn window(values: &HashMap<(Tag, Tag), Value>) -> Voi {
    let get = |tag: Tag| values.get(&(0, tag));
    let function = match get(0x0028_1056).map(Value::text).as_deref() {
        Some("SIGMOID") => Function::Sigmoid,
        Some("LINEAR_EXACT") => Function::LinearExact,
        _ => Function::Linear,
    };
    let least = if function == Function::Linear {
        1.0
    } else {
        f64::MIN_POSITIVE
    };
    match (
        get(0x0028_1050).and_then(Value::decimal),
        get(0x0028_1051).and_then(Value::decimal),
    ) {
        (Some(center), Some(width)) if width >= least => Voi::Window {
            center,
            width,
            function,
        },
        // A window that shows nothing is none.
        _ => Voi::WholeRange,
    }
}

/// How tall a pixel is by its spacing (PS3.3 §10.7.1: first down, then across), else by Pixel Aspect Ratio. A hundredth
/// more or less is square, and what no device makes is not believed.
fn aspect(values: &HashMap<(Tag, Tag), Value>) -> f64 {
    const SPACING: Tag = 0x0028_0030;
    const IMAGER_SPACING: Tag = 0x0018_1164;
    const RATIO: Tag = 0x0028_0034;
    let ratio = |tag: Tag| {
        let value = values.get(&(0, tag))?;
        let (tall, wide) = (value.decimal_at(0)?, value.decimal_at(1)?);
        (tall > 0.0 && wide > 0.0).then_some(tall / wide)
    };
    [SPACING, IMAGER_SPACING, RATIO]
        .into_iter()
        .find_map(ratio)
        .filter(|ratio| (0.1..=10.0).contains(ratio) && (ratio - 1.0).abs() > 0.01)
        .unwrap_or(1.0)
}

/// The table in the first item of a sequence, for inputs of this range; none when it is unusable.
fn lut(values: &HashMap<(Tag, Tag), Value>, sequence: Tag, inputs: (f64, f64)) -> Option<Lut> {
    table(
        values.get(&(sequence, 0x0028_3002))?,
        values.get(&(sequence, 0x0028_3006))?,
        inputs,
    )
}

fn table(descriptor: &Value, data: &Value, (least, greatest): (f64, f64)) -> Option<Lut> {
    let [count, first, bits, ..] = descriptor.words()[..] else {
        return None;
    };
    // A descriptor is US or SS as a whole, but only its second number can be negative. Without a VR it is SS where an input
    // can be negative (PS3.3 §C.11.2.1.1); some devices write such a one as US, and then no input is as great as it says.
    let negative = match &descriptor.vr {
        b"SS" => true,
        b"US" => least < 0.0 && f64::from(first) > greatest,
        _ => least < 0.0,
    };
    let first = if negative {
        i32::from(first as i16)
    } else {
        first.into()
    };
    let count = if count == 0 {
        65536
    } else {
        usize::from(count)
    };
    let packed = bits <= 8 && data.bytes.len() < 2 * count;
    let mut entries = if packed {
        data.bytes.iter().map(|byte| u16::from(*byte)).collect()
    } else {
        data.words()
    };
    entries.truncate(count);
    (!entries.is_empty() && (1..=16).contains(&bits)).then_some(Lut {
        first,
        bits,
        entries,
    })
}

fn palette(values: &HashMap<(Tag, Tag), Value>) -> Result<[Lut; 3], Fault> {
    let colour = |n: Tag| {
        let descriptor = values.get(&(0, 0x0028_1101 + n))?;
        table(descriptor, values.get(&(0, 0x0028_1201 + n))?, OUTPUTS)
    };
    match (colour(0), colour(1), colour(2)) {
        (Some(red), Some(green), Some(blue)) => Ok([red, green, blue]),
        _ => Err(Fault::new(
            Reason::CannotDecode,
            "the palette is absent, segmented or damaged",
        )),
    }
}
