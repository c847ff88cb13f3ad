//! A tiny DICOM writer for tests: every byte is under the test's control.

use std::collections::BTreeMap;

use crate::decode::dataset::PIXEL_DATA;
use crate::decode::encoding::Tag;

pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

#[derive(Clone)]
pub enum Content {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
    /// A sequence with items of explicit length.
    Items(Vec<Vec<(Tag, &'static str, Content)>>),
    /// A sequence and items of undefined length.
    OpenItems(Vec<Vec<(Tag, &'static str, Content)>>),
    /// An empty Basic Offset Table, then these.
    Fragments(Vec<Vec<u8>>),
}

#[derive(Clone)]
pub struct Dicom {
    elements: BTreeMap<Tag, (&'static str, Content)>,
    syntax: String,
    preamble: bool,
    meta: bool,
}

impl Dicom {
    /// A computed radiograph of unsigned MONOCHROME2 pixels without a window.
    pub fn new(rows: u16, columns: u16, bits_allocated: u16, bits_stored: u16) -> Self {
        let new = Self {
            elements: BTreeMap::new(),
            syntax: EXPLICIT.into(),
            preamble: true,
            meta: true,
        };
        new.text(0x0008_0016, "UI", "1.2.840.10008.5.1.4.1.1.1")
            .text(0x0008_0018, "UI", "1.2.826.0.1.3680043.8.498.1")
            .text(0x0008_0020, "DA", "20261123")
            .text(0x0008_0060, "CS", "CR")
            .text(0x0010_0020, "LO", "PAT 17")
            .text(0x0018_5101, "CS", "PA")
            .words(0x0028_0002, &[1])
            .text(0x0028_0004, "CS", "MONOCHROME2")
            .words(0x0028_0010, &[rows])
            .words(0x0028_0011, &[columns])
            .words(0x0028_0100, &[bits_allocated])
            .words(0x0028_0101, &[bits_stored])
            .words(0x0028_0102, &[bits_stored - 1])
            .words(0x0028_0103, &[0])
    }

    pub fn set(mut self, tag: Tag, vr: &'static str, content: Content) -> Self {
        self.elements.insert(tag, (vr, content));
        self
    }

    pub fn without(mut self, tag: Tag) -> Self {
        self.elements.remove(&tag);
        self
    }

    pub fn text(self, tag: Tag, vr: &'static str, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(if vr == "UI" { 0 } else { b' ' });
        }
        self.set(tag, vr, Content::Bytes(bytes))
    }

    pub fn words(self, tag: Tag, words: &[u16]) -> Self {
        self.set(tag, "US", Content::Words(words.to_vec()))
    }

    pub fn pixels16(self, cells: &[u16]) -> Self {
        self.set(PIXEL_DATA, "OW", Content::Words(cells.to_vec()))
    }

    pub fn pixels8(self, cells: &[u8]) -> Self {
        self.set(PIXEL_DATA, "OB", Content::Bytes(cells.to_vec()))
    }

    pub fn fragments(self, syntax: &str, fragments: &[&[u8]]) -> Self {
        let fragments = fragments.iter().map(|bytes| bytes.to_vec()).collect();
        self.syntax(syntax)
            .set(PIXEL_DATA, "OB", Content::Fragments(fragments))
    }

    pub fn syntax(mut self, uid: &str) -> Self {
        self.syntax = uid.into();
        self
    }

    pub fn without_preamble(mut self) -> Self {
        self.preamble = false;
        self
    }

    pub fn without_meta(mut self) -> Self {
        (self.preamble, self.meta) = (false, false);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.preamble {
            out.resize(128, 0);
            out.extend(b"DICM");
        }
        let little = Writer {
            implicit: false,
            big: false,
        };
        if self.meta {
            let mut meta = Vec::new();
            little.element(&mut meta, 0x0002_0001, "OB", &Content::Bytes(vec![0, 1]));
            if !self.syntax.is_empty() {
                let mut uid = self.syntax.clone().into_bytes();
                uid.resize(uid.len().next_multiple_of(2), 0);
                little.element(&mut meta, 0x0002_0010, "UI", &Content::Bytes(uid));
            }
            // Longer than the 16 characters of its VR, as real devices have it.
            little.element(
                &mut meta,
                0x0002_0013,
                "SH",
                &Content::Bytes(b"A VERSION NAME FAR TOO LONG".to_vec()),
            );
            let len = (meta.len() as u32).to_le_bytes().to_vec();
            little.element(&mut out, 0x0002_0000, "UL", &Content::Bytes(len));
            out.extend(meta);
        }
        let writer = Writer {
            implicit: self.syntax == IMPLICIT,
            big: self.syntax == BIG_ENDIAN,
        };
        let mut body = Vec::new();
        for (tag, (vr, content)) in &self.elements {
            writer.element(&mut body, *tag, vr, content);
        }
        if self.syntax == DEFLATED {
            let mut encoder =
                flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut encoder, &body).unwrap();
            body = encoder.finish().unwrap();
        }
        out.extend(body);
        out
    }
}

#[derive(Clone, Copy)]
struct Writer {
    implicit: bool,
    big: bool,
}

impl Writer {
    fn u16(self, n: u16) -> [u8; 2] {
        if self.big {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        }
    }

    fn u32(self, n: u32) -> [u8; 4] {
        if self.big {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        }
    }

    fn tag(self, out: &mut Vec<u8>, tag: Tag) {
        out.extend(self.u16((tag >> 16) as u16));
        out.extend(self.u16(tag as u16));
    }

    fn element(self, out: &mut Vec<u8>, tag: Tag, vr: &str, content: &Content) {
        let mut value = Vec::new();
        let mut open = false;
        match content {
            Content::Bytes(bytes) => value.extend(bytes),
            Content::Words(words) => value.extend(words.iter().flat_map(|word| self.u16(*word))),
            Content::Items(items) | Content::OpenItems(items) => {
                open = matches!(content, Content::OpenItems(_));
                for item in items {
                    let mut body = Vec::new();
                    for (tag, vr, content) in item {
                        self.element(&mut body, *tag, vr, content);
                    }
                    self.tag(&mut value, 0xFFFE_E000);
                    value.extend(self.u32(if open { u32::MAX } else { body.len() as u32 }));
                    value.extend(body);
                    if open {
                        self.tag(&mut value, 0xFFFE_E00D);
                        value.extend([0; 4]);
                    }
                }
            }
            Content::Fragments(fragments) => {
                open = true;
                let empty = Vec::new();
                for fragment in std::iter::once(&empty).chain(fragments) {
                    self.tag(&mut value, 0xFFFE_E000);
                    value.extend(self.u32(fragment.len().next_multiple_of(2) as u32));
                    value.extend(fragment);
                    value.resize(value.len().next_multiple_of(2), 0);
                }
            }
        }
        let len = if open { u32::MAX } else { value.len() as u32 };
        self.tag(out, tag);
        if self.implicit {
            out.extend(self.u32(len));
        } else {
            out.extend(vr.as_bytes());
            if matches!(vr, "OB" | "OW" | "SQ" | "UN" | "UT") {
                out.extend([0; 2]);
                out.extend(self.u32(len));
            } else {
                out.extend(self.u16(len as u16));
            }
        }
        out.extend(value);
        if open {
            self.tag(out, 0xFFFE_E0DD);
            out.extend([0; 4]);
        }
    }
}
