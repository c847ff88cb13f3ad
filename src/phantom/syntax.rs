//! The transfer syntaxes that phantoms can be written in, by the names that the command line uses.

use std::str::FromStr;

use dicom_dictionary_std::uids;

/// A transfer syntax (PS3.5 chapter 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Syntax {
    /// Explicit VR little endian.
    ExplicitLe,
    /// Implicit VR little endian.
    ImplicitLe,
    /// Explicit VR big endian (retired, still met).
    ExplicitBe,
    /// Deflated explicit VR little endian.
    Deflated,
    /// RLE lossless.
    Rle,
    /// JPEG baseline, process 1: windowed to 8 bits, lossy.
    JpegBaseline,
    /// JPEG extended, process 4: 12 bits, lossy.
    JpegExtended,
    /// JPEG lossless, process 14, selection value 1.
    JpegLossless,
    /// JPEG-LS lossless.
    JpegLs,
    /// JPEG 2000, lossy.
    Jpeg2000,
    /// JPEG 2000, lossless only.
    Jpeg2000Lossless,
}

impl Syntax {
    /// All that can be written. HTJ2K and JPEG XL are missing: no crate in use encodes them.
    pub const ALL: [Self; 11] = [
        Self::ExplicitLe,
        Self::ImplicitLe,
        Self::ExplicitBe,
        Self::Deflated,
        Self::Rle,
        Self::JpegBaseline,
        Self::JpegExtended,
        Self::JpegLossless,
        Self::JpegLs,
        Self::Jpeg2000,
        Self::Jpeg2000Lossless,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExplicitLe => "explicit",
            Self::ImplicitLe => "implicit",
            Self::ExplicitBe => "big-endian",
            Self::Deflated => "deflated",
            Self::Rle => "rle",
            Self::JpegBaseline => "jpeg",
            Self::JpegExtended => "jpeg-extended",
            Self::JpegLossless => "jpeg-lossless",
            Self::JpegLs => "jpegls",
            Self::Jpeg2000 => "j2k",
            Self::Jpeg2000Lossless => "j2k-lossless",
        }
    }

    /// The transfer syntax UID.
    #[expect(deprecated, reason = "big endian is retired but real files have it")]
    pub fn uid(self) -> &'static str {
        match self {
            Self::ExplicitLe => uids::EXPLICIT_VR_LITTLE_ENDIAN,
            Self::ImplicitLe => uids::IMPLICIT_VR_LITTLE_ENDIAN,
            Self::ExplicitBe => uids::EXPLICIT_VR_BIG_ENDIAN,
            Self::Deflated => uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
            Self::Rle => uids::RLE_LOSSLESS,
            Self::JpegBaseline => uids::JPEG_BASELINE8_BIT,
            Self::JpegExtended => uids::JPEG_EXTENDED12_BIT,
            Self::JpegLossless => uids::JPEG_LOSSLESS_SV1,
            Self::JpegLs => uids::JPEGLS_LOSSLESS,
            Self::Jpeg2000 => uids::JPEG2000,
            Self::Jpeg2000Lossless => uids::JPEG2000_LOSSLESS,
        }
    }

    /// Whether reading gives back exactly the pixels that were written.
    pub fn is_lossless(self) -> bool {
        !matches!(
            self,
            Self::JpegBaseline | Self::JpegExtended | Self::Jpeg2000
        )
    }
}

/// No such syntax.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no transfer syntax is called {0:?}; choose mixed, {names}", names = Syntax::ALL.map(Syntax::name).join(", "))]
pub struct UnknownSyntax(String);

impl FromStr for Syntax {
    type Err = UnknownSyntax;

    fn from_str(text: &str) -> Result<Self, UnknownSyntax> {
        Self::ALL
            .into_iter()
            .find(|s| s.name() == text)
            .ok_or_else(|| UnknownSyntax(text.to_owned()))
    }
}

/// One syntax for a whole set, or all of them in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyntaxChoice {
    /// Each image in one of [`Syntax::ALL`], chosen by its plan's nuisance stream.
    Mixed,
    /// All images in the same syntax.
    One(Syntax),
}

impl FromStr for SyntaxChoice {
    type Err = UnknownSyntax;

    fn from_str(text: &str) -> Result<Self, UnknownSyntax> {
        if text == "mixed" {
            Ok(Self::Mixed)
        } else {
            text.parse().map(Self::One)
        }
    }
}
