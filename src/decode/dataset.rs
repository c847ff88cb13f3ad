//! The structure of a data set (PS3.5 §7): a walk over its elements that keeps the few values radsort needs.
//!
//! Made for hostile and damaged files: nothing is allocated by a declared length, every declared length is compared
//! with what is left, nesting is bounded, and so is what is read in all. `dicom-object` keeps none of these promises.

use std::collections::HashMap;

use super::bytes::Bytes;
use super::encoding::{Encoding, Tag, has_long_length, is_vr};

/// Pixel Data.
pub const PIXEL_DATA: Tag = 0x7FE0_0010;
const ITEM: Tag = 0xFFFE_E000;
const ITEM_DELIMITATION: Tag = 0xFFFE_E00D;
const SEQUENCE_DELIMITATION: Tag = 0xFFFE_E0DD;
const UNDEFINED: u32 = u32::MAX;

/// Sequences whose first item is looked into: Modality LUT, VOI LUT, View Code.
const SEQUENCES: [Tag; 3] = [0x0028_3000, 0x0028_3010, 0x0054_0220];
/// Deeper nesting than any real object has; a structured report seldom passes 10.
const MAX_DEPTH: u32 = 24;
/// Bytes of element headers and values that are read in all; real headers have tens of kilobytes.
const BUDGET: u64 = 1 << 20;
const MAX_FRAGMENTS: usize = 200_000;
const WINDOW: usize = 4096;

/// A value as it stands in the file.
#[derive(Clone, Debug)]
pub struct Value {
    /// Value representation; zeros when the stream is implicit.
    pub vr: [u8; 2],
    /// The bytes, cut at 1 KiB (256 KiB for look-up tables).
    pub bytes: Vec<u8>,
    /// The order of the bytes.
    pub encoding: Encoding,
}

/// Where Pixel Data lies.
#[derive(Clone, Debug)]
pub enum PixelData {
    /// Uncompressed: one run of bytes.
    Native {
        /// Place of the first byte.
        at: u64,
        /// Length in bytes as declared; all of it is there.
        len: u64,
        /// Whether the VR is OW and the stream big endian: 8-bit samples are then swapped in pairs.
        swapped: bool,
    },
    /// Encapsulated (PS3.5 §A.4).
    Encapsulated {
        /// Place and length of the Basic Offset Table's value.
        offsets: (u64, u32),
        /// Places and lengths of the fragments.
        fragments: Vec<(u64, u32)>,
    },
}

/// What ends a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The data set ended where the bytes do, or only zeros or Data Set Trailing Padding follow.
    Clean,
    /// Pixel Data is whole; what follows is no element.
    Trailing,
    /// The structure goes on so many bytes beyond the end (at least 1).
    ShortBy(u64),
    /// This is no data set.
    Malformed(&'static str),
}

/// What a walk over a data set found.
pub struct DataSet {
    /// Values by (sequence or 0, tag).
    pub values: HashMap<(Tag, Tag), Value>,
    /// Pixel Data, when it was reached and is all there.
    pub pixel_data: Option<PixelData>,
    /// Float or Double Float Pixel Data stands where Pixel Data should.
    pub float_pixel_data: bool,
    /// How the walk ended.
    pub end: End,
    /// Place after the last element that was read.
    pub position: u64,
}

/// Walks from `start` to the end of `bytes`, or, with `only_group`, as far as the elements are of that group.
pub fn walk(
    bytes: &Bytes,
    start: u64,
    encoding: Encoding,
    only_group: Option<u16>,
    wanted: &[Tag],
) -> DataSet {
    let mut walker = Walker {
        bytes,
        wanted,
        only_group,
        window: [0; WINDOW],
        window_at: 0,
        window_len: 0,
        left: BUDGET,
        values: HashMap::new(),
        pixel_data: None,
        float_pixel_data: false,
        pixels_passed: false,
        position: start,
    };
    let end = match walker.top(start, encoding) {
        Ok(()) => End::Clean,
        Err(_) if walker.pixels_passed && walker.only_zeros(walker.position, 1 << 20) => End::Clean,
        // An element that begins well and goes on beyond the end is a file still being written.
        Err(End::ShortBy(n)) => End::ShortBy(n),
        Err(_) if walker.pixels_passed => End::Trailing,
        Err(end) => end,
    };
    DataSet {
        values: walker.values,
        pixel_data: walker.pixel_data,
        float_pixel_data: walker.float_pixel_data,
        end,
        position: walker.position,
    }
}

struct Walker<'a> {
    bytes: &'a Bytes<'a>,
    wanted: &'a [Tag],
    only_group: Option<u16>,
    window: [u8; WINDOW],
    window_at: u64,
    window_len: usize,
    left: u64,
    values: HashMap<(Tag, Tag), Value>,
    pixel_data: Option<PixelData>,
    float_pixel_data: bool,
    pixels_passed: bool,
    position: u64,
}

/// An element's header.
struct Element {
    tag: Tag,
    vr: [u8; 2],
    len: u32,
    /// Place of the value.
    at: u64,
}

type Walk<T> = Result<T, End>;

impl Walker<'_> {
    fn top(&mut self, start: u64, encoding: Encoding) -> Walk<()> {
        let end = self.bytes.len();
        let mut at = start;
        let mut group = PIXEL_DATA >> 16;
        while at < end {
            self.position = at;
            if self.pixels_passed && end - at < 8 {
                return Err(End::Trailing);
            }
            let element = self.element(at, end, encoding)?;
            // Tags ascend (PS3.5 §7.1): anything else after the pixels is no element but something appended.
            // Without VRs any bytes would do: there it must go on with its group, or begin one that may follow the pixels.
            let odd = if encoding.implicit {
                element.tag >> 16 != group && !begins_trailing_group(element.tag)
            } else {
                !is_vr(element.vr)
            };
            if self.pixels_passed {
                if odd || element.tag <= PIXEL_DATA {
                    return Err(End::Trailing);
                }
                group = element.tag >> 16;
            }
            if self
                .only_group
                .is_some_and(|group| element.tag >> 16 != u32::from(group))
            {
                return Ok(());
            }
            at = self.pass(&element, end, encoding, 0, 0)?;
        }
        self.position = at;
        Ok(())
    }

    /// Passes one element's value and keeps what is wanted; `inside` is the sequence that is looked into, or 0.
    fn pass(
        &mut self,
        element: &Element,
        limit: u64,
        encoding: Encoding,
        inside: Tag,
        depth: u32,
    ) -> Walk<u64> {
        let top = depth == 0;
        if element.len == UNDEFINED {
            return match (element.tag, &element.vr) {
                (PIXEL_DATA, _) | (_, b"OB" | b"OW") => {
                    self.fragments(element, limit, encoding, top)
                }
                (_, b"UN") => {
                    let encoding = self.encoding_of_unknown(element.at, limit);
                    self.sequence(element, limit, encoding, depth)
                }
                (_, b"SQ" | [0, 0]) => self.sequence(element, limit, encoding, depth),
                _ => Err(End::Malformed(
                    "an element that is no sequence has an undefined length",
                )),
            };
        }
        let next = self.fits(element.at, element.len, limit)?;
        if top && element.tag == PIXEL_DATA {
            let swapped = encoding.big_endian && &element.vr == b"OW";
            self.found(PixelData::Native {
                at: element.at,
                len: element.len.into(),
                swapped,
            });
        } else if top && matches!(element.tag, 0x7FE0_0008 | 0x7FE0_0009) {
            self.float_pixel_data = true;
            self.pixels_passed = true;
        } else if SEQUENCES.contains(&element.tag)
            && top
            && matches!(&element.vr, b"SQ" | [0, 0] | b"UN")
        {
            let encoding = if &element.vr == b"UN" {
                Encoding::IMPLICIT
            } else {
                encoding
            };
            self.items(element.tag, element.at, next, false, encoding, depth + 1)?;
        } else if (inside != 0 && &element.vr != b"SQ")
            || (top && self.wanted.binary_search(&element.tag).is_ok())
        {
            self.keep(inside, element, encoding)?;
        }
        Ok(next)
    }

    /// What an unknown element of undefined length holds is implicit little endian (PS3.5 §6.2.2 note 2), but some devices
    /// write it with value representations: the first element of its first item shows that.
    fn encoding_of_unknown(&mut self, at: u64, limit: u64) -> Encoding {
        let mut head = [0; 14];
        let there = self.fits(at, 14, limit).is_ok() && self.read(at, &mut head).is_ok();
        let item = head[..4] == [0xFE, 0xFF, 0x00, 0xE0];
        if there && item && is_vr([head[12], head[13]]) {
            Encoding::EXPLICIT
        } else {
            Encoding::IMPLICIT
        }
    }

    fn found(&mut self, pixel_data: PixelData) {
        self.pixel_data.get_or_insert(pixel_data);
        self.pixels_passed = true;
    }

    fn sequence(
        &mut self,
        element: &Element,
        limit: u64,
        encoding: Encoding,
        depth: u32,
    ) -> Walk<u64> {
        let inside = if depth == 0 && SEQUENCES.contains(&element.tag) {
            element.tag
        } else {
            0
        };
        self.items(inside, element.at, limit, true, encoding, depth + 1)
    }

    /// Passes the items of a sequence up to `limit`, or up to its delimiter when it is `delimited`.
    fn items(
        &mut self,
        mut inside: Tag,
        start: u64,
        limit: u64,
        delimited: bool,
        encoding: Encoding,
        depth: u32,
    ) -> Walk<u64> {
        if depth > MAX_DEPTH {
            return Err(End::Malformed("sequences are nested too deeply"));
        }
        let mut at = start;
        while delimited || at < limit {
            let (tag, len) = self.item_header(at, limit, encoding)?;
            at += 8;
            match tag {
                ITEM if len == UNDEFINED => {
                    at = self.item(inside, at, limit, true, encoding, depth)?;
                }
                ITEM => {
                    let next = self.fits(at, len, limit)?;
                    // Only items that matter, or whose end is unknown, are entered.
                    if inside != 0 {
                        self.item(inside, at, next, false, encoding, depth)?;
                    }
                    at = next;
                }
                SEQUENCE_DELIMITATION if delimited => return Ok(at),
                _ => return Err(self.no_item(at - 8, "a sequence holds something else than items")),
            }
            inside = 0; // only the first item is looked into
        }
        Ok(at)
    }

    fn item(
        &mut self,
        inside: Tag,
        start: u64,
        limit: u64,
        delimited: bool,
        encoding: Encoding,
        depth: u32,
    ) -> Walk<u64> {
        let mut at = start;
        while delimited || at < limit {
            let element = self.element(at, limit, encoding)?;
            if element.tag == ITEM_DELIMITATION && delimited {
                return Ok(at + 8);
            }
            at = self.pass(&element, limit, encoding, inside, depth)?;
        }
        Ok(at)
    }

    /// Passes the fragments of encapsulated pixel data and, for the `main` pixel data, notes where they lie.
    fn fragments(
        &mut self,
        element: &Element,
        limit: u64,
        encoding: Encoding,
        top: bool,
    ) -> Walk<u64> {
        let main = top && element.tag == PIXEL_DATA;
        let mut offsets = None;
        let mut fragments = Vec::new();
        let mut at = element.at;
        loop {
            if at == limit && main && !fragments.is_empty() {
                // Everything but the delimiter is there.
                self.found(PixelData::Encapsulated {
                    offsets: offsets.unwrap_or_default(),
                    fragments,
                });
                return Err(End::ShortBy(8));
            }
            self.fits(at, 8, limit)?;
            // Fragments can be many and far apart: read directly, outside the budget; MAX_FRAGMENTS bounds it.
            let mut head = [0; 8];
            self.bytes
                .read_at(at, &mut head)
                .map_err(|_| End::ShortBy(1))?;
            let (tag, len) = item_header(head, encoding);
            match tag {
                ITEM => {
                    let next = self.fits(at + 8, len, limit)?;
                    if offsets.is_none() {
                        offsets = Some((at + 8, len));
                    } else if fragments.len() < MAX_FRAGMENTS {
                        fragments.push((at + 8, len));
                    } else {
                        return Err(End::Malformed("pixel data has too many fragments"));
                    }
                    at = next;
                }
                SEQUENCE_DELIMITATION => {
                    if main {
                        self.found(PixelData::Encapsulated {
                            offsets: offsets.unwrap_or_default(),
                            fragments,
                        });
                    }
                    return Ok(at + 8);
                }
                _ => {
                    return Err(self.no_item(
                        at,
                        "encapsulated pixel data holds something else than items",
                    ));
                }
            }
        }
    }

    /// What a place means where an item should begin but does not: zeros are a file that is still being filled.
    fn no_item(&mut self, at: u64, otherwise: &'static str) -> End {
        if self.only_zeros(at, 4096) {
            End::ShortBy((self.bytes.len() - at).max(1))
        } else {
            End::Malformed(otherwise)
        }
    }

    /// Where a value of `len` bytes at `at` ends, if it ends before `limit`.
    fn fits(&self, at: u64, len: u32, limit: u64) -> Walk<u64> {
        let next = at + u64::from(len);
        if next <= limit {
            Ok(next)
        } else if limit == self.bytes.len() {
            Err(End::ShortBy(next - limit))
        } else {
            Err(End::Malformed(
                "an element is longer than the item that holds it",
            ))
        }
    }

    fn item_header(&mut self, at: u64, limit: u64, encoding: Encoding) -> Walk<(Tag, u32)> {
        self.fits(at, 8, limit)?;
        let mut head = [0; 8];
        self.read(at, &mut head)?;
        Ok(item_header(head, encoding))
    }

    fn element(&mut self, at: u64, limit: u64, encoding: Encoding) -> Walk<Element> {
        let (tag, long) = self.item_header(at, limit, encoding)?;
        if tag == 0 {
            return Err(self.no_item(at, "there are zeros where an element should be"));
        }
        if tag >> 16 == 0xFFFE {
            // A stray delimiter is passed over; real files have them.
            let delimiter = matches!(tag, ITEM_DELIMITATION | SEQUENCE_DELIMITATION) && long == 0;
            return if delimiter {
                Ok(Element {
                    tag,
                    vr: *b"UN",
                    len: 0,
                    at: at + 8,
                })
            } else {
                Err(End::Malformed("an item stands outside a sequence"))
            };
        }
        let [x, y, short @ ..] = self.window_slice(at + 4);
        let vr = [x, y];
        if encoding.implicit || !vr.iter().all(u8::is_ascii_uppercase) {
            return Ok(Element {
                tag,
                vr: [0, 0],
                len: long,
                at: at + 8,
            });
        }
        if !has_long_length(vr) {
            return Ok(Element {
                tag,
                vr,
                len: encoding.u16(short).into(),
                at: at + 8,
            });
        }
        self.fits(at, 12, limit)?;
        let mut len = [0; 4];
        self.read(at + 8, &mut len)?;
        Ok(Element {
            tag,
            vr,
            len: encoding.u32(len),
            at: at + 12,
        })
    }

    /// Four bytes that [`Self::read`] has just brought in.
    fn window_slice(&self, at: u64) -> [u8; 4] {
        let start = at.saturating_sub(self.window_at) as usize;
        self.window
            .get(start..start + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or_default()
    }

    fn keep(&mut self, inside: Tag, element: &Element, encoding: Encoding) -> Walk<()> {
        let table = matches!(element.tag, 0x0028_3006 | 0x0028_1201..=0x0028_1203);
        let len = (element.len as usize).min(if table { 256 << 10 } else { 1 << 10 });
        // Bounded by the caps above and, before that, by what the file holds.
        let mut bytes = vec![0; len];
        self.read(element.at, &mut bytes)?;
        self.values.entry((inside, element.tag)).or_insert(Value {
            vr: element.vr,
            bytes,
            encoding,
        });
        Ok(())
    }

    /// Reads through the window; what is read counts against the budget.
    fn read(&mut self, at: u64, out: &mut [u8]) -> Walk<()> {
        let inside = at >= self.window_at
            && at + out.len() as u64 <= self.window_at + self.window_len as u64;
        if !inside && out.len() > WINDOW {
            self.spend(out.len())?;
            return self.bytes.read_at(at, out).map_err(|_| End::ShortBy(1));
        }
        if !inside {
            let len = (self.bytes.len() - at.min(self.bytes.len())).min(WINDOW as u64) as usize;
            let len = if self.left < BUDGET / 2 {
                len.min(64)
            } else {
                len
            }
            .max(out.len());
            self.spend(len)?;
            self.window_len = 0;
            self.bytes
                .read_at(at, &mut self.window[..len])
                .map_err(|_| End::ShortBy(1))?;
            (self.window_at, self.window_len) = (at, len);
        }
        let start = (at - self.window_at) as usize;
        out.copy_from_slice(&self.window[start..start + out.len()]);
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Walk<()> {
        self.left = self
            .left
            .checked_sub(bytes as u64)
            .ok_or(End::Malformed("the header is larger than 1 MiB"))?;
        Ok(())
    }

    /// Whether there are only zeros from `at` on, judged by the first `most` bytes.
    fn only_zeros(&self, at: u64, most: u64) -> bool {
        let end = self.bytes.len().min(at.saturating_add(most));
        let mut block = [0; WINDOW];
        let mut at = at;
        while at < end {
            let len = (end - at).min(WINDOW as u64) as usize;
            if self.bytes.read_at(at, &mut block[..len]).is_err()
                || block[..len].iter().any(|byte| *byte != 0)
            {
                return false;
            }
            at += len as u64;
        }
        true
    }
}

/// Whether an element begins a group behind the pixels: Digital Signatures, Data Set Trailing Padding, or a private group,
/// which begins with its length or who made it (PS3.5 §7.8.1).
fn begins_trailing_group(tag: Tag) -> bool {
    let (group, element) = (tag >> 16, tag & 0xFFFF);
    let private = group % 2 == 1 && group != 0xFFFF && element <= 0x00FF;
    private || matches!(tag, 0xFFFA_FFFA | 0xFFFC_FFFC)
}

fn item_header([a, b, c, d, e, f, g, h]: [u8; 8], encoding: Encoding) -> (Tag, u32) {
    (encoding.tag([a, b, c, d]), encoding.u32([e, f, g, h]))
}
