//! How elements are encoded (PS3.5 §6.2, §7.1): byte order, tags, value representations.

/// An element's tag, group in the upper half.
pub type Tag = u32;

/// How elements are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// No value representations (VR) in the stream.
    pub implicit: bool,
    /// Most significant byte first.
    pub big_endian: bool,
}

impl Encoding {
    /// Implicit VR, little endian.
    pub const IMPLICIT: Self = Self {
        implicit: true,
        big_endian: false,
    };
    /// Explicit VR, little endian.
    pub const EXPLICIT: Self = Self {
        implicit: false,
        big_endian: false,
    };

    /// Two bytes as an unsigned number.
    pub fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    /// Four bytes as an unsigned number.
    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    /// Four bytes as a tag.
    pub fn tag(self, bytes: [u8; 4]) -> Tag {
        let [a, b, c, d] = bytes;
        Tag::from(self.u16([a, b])) << 16 | Tag::from(self.u16([c, d]))
    }
}

/// Whether a VR has two reserved bytes and a length of four (PS3.5 §7.1.2).
pub fn has_long_length(vr: [u8; 2]) -> bool {
    matches!(
        &vr,
        b"OB"
            | b"OW"
            | b"OF"
            | b"OD"
            | b"OL"
            | b"OV"
            | b"SQ"
            | b"UC"
            | b"UR"
            | b"UT"
            | b"UN"
            | b"SV"
            | b"UV"
    )
}

/// Whether two bytes are a value representation of PS3.5 §6.2.
pub fn is_vr(vr: [u8; 2]) -> bool {
    has_long_length(vr)
        || matches!(
            &vr,
            b"AE"
                | b"AS"
                | b"AT"
                | b"CS"
                | b"DA"
                | b"DS"
                | b"DT"
                | b"FL"
                | b"FD"
                | b"IS"
                | b"LO"
                | b"LT"
                | b"PN"
                | b"SH"
                | b"SL"
                | b"SS"
                | b"ST"
                | b"TM"
                | b"UI"
                | b"UL"
                | b"US"
        )
}
