//! What the model said, and what follows from it: the one table that turns header and pixels into a decision.
//!
//! Header view × what the pixels say:
//!
//! | header            | pixels sure of a view          | pixels unsure                          | pixels: neither |
//! |-------------------|--------------------------------|----------------------------------------|-----------------|
//! | AP, PA / LL, RL   | same view: go on with it;      | go on with the header's view unless the | `out-of-scope`  |
//! |                   | the other: `view-conflict`     | other one leads by more than the margin: `view-conflict` | |
//! | oblique           | `oblique-view`                 | `oblique-view`                         | `out-of-scope`  |
//! | other, absent     | go on with the pixels' view    | `view-unsure`                          | `out-of-scope`  |
//!
//! Then the category: `out-of-distribution` before `low-confidence`; otherwise the file is filed.

use serde::{Deserialize, Serialize};

use super::{CategoryId, View, instance::Description, view_code};

/// Calibrated probabilities of the view classifier; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewScores {
    /// Probability of a frontal view, 0 to 1.
    pub frontal: f32,
    /// Probability of a lateral view, 0 to 1.
    pub lateral: f32,
    /// Probability of neither (another body part, no radiograph at all), 0 to 1.
    pub neither: f32,
}

impl ViewScores {
    /// The probability of one view.
    pub fn of(&self, view: View) -> f32 {
        match view {
            View::Frontal => self.frontal,
            View::Lateral => self.lateral,
        }
    }

    /// The likelier of the two views.
    pub fn favourite(&self) -> View {
        if self.lateral > self.frontal {
            View::Lateral
        } else {
            View::Frontal
        }
    }
}

/// One category with its calibrated probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The category.
    pub category: CategoryId,
    /// Its probability given the view, 0 to 1.
    pub probability: f32,
}

/// What the model said about one radiograph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// What the header says about the view.
    pub header_view: HeaderView,
    /// What the pixels say about the view; `None` when the bundle has no view classifier.
    pub view_scores: Option<ViewScores>,
    /// The view that header and pixels settle on, if they do.
    pub view: Option<View>,
    /// Why they do not, if they do not.
    pub view_problem: Option<Reason>,
    /// Categories, the likeliest first; empty when no category classifier ran.
    pub scores: Vec<Score>,
    /// Probability of the likeliest category and of its view together, 0 to 1.
    pub confidence: f32,
    /// How unusual the image is, in units of the bundle's threshold: above 1 is out of distribution.
    pub out_of_distribution: Option<f32>,
    /// Bundle name and version.
    pub model: String,
    /// The ONNX Runtime execution provider that ran, e.g. `cpu` or `cuda:0`.
    pub provider: String,
}

impl Prediction {
    /// The likeliest category.
    pub fn category(&self) -> Option<&CategoryId> {
        self.scores.first().map(|score| &score.category)
    }
}

/// What View Position (0018,5101), Patient Orientation (0020,0020) and the view code say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderView {
    /// Antero-posterior.
    Ap,
    /// Postero-anterior.
    Pa,
    /// Left lateral.
    Ll,
    /// Right lateral.
    Rl,
    /// Lateral, side not told.
    Lateral,
    /// Any oblique view.
    Oblique,
    /// Something else.
    Other,
    /// Nothing.
    Absent,
}

impl HeaderView {
    /// Reads the header. View Position is believed first, then the view code, then Patient Orientation.
    pub fn of(header: &Description) -> Self {
        let position = header.view_position.trim();
        let told = Self::of_position(position).or_else(|| view_code::of_meaning(&header.view_code));
        if let Some(view) = told {
            return view;
        }
        // PS3.3 C.7.6.1.1.1: the direction of the rows, e.g. L\F; rows running left–right mean a frontal view.
        match header.patient_orientation.split('\\').next().map(str::trim) {
            Some("L" | "R") if position.is_empty() => Self::from_row(header, Self::Ap),
            Some("A" | "P") if position.is_empty() => Self::from_row(header, Self::Lateral),
            _ if position.is_empty() && header.view_code.is_empty() => Self::Absent,
            _ => Self::Other,
        }
    }

    /// What View Position alone says, when it is one of the views.
    pub fn of_position(position: &str) -> Option<Self> {
        Some(match position.to_ascii_uppercase().as_str() {
            "AP" => Self::Ap,
            "PA" => Self::Pa,
            "LL" | "LLAT" | "LEFT LATERAL" => Self::Ll,
            "RL" | "RLAT" | "RIGHT LATERAL" => Self::Rl,
            "LAT" | "LATERAL" => Self::Lateral,
            "RLO" | "LLO" | "RAO" | "LAO" | "RPO" | "LPO" | "OBL" | "OBLIQUE" => Self::Oblique,
            _ => return None,
        })
    }

    /// Patient Orientation counts only for an upright image, whose columns run to the feet or the head.
    fn from_row(header: &Description, view: Self) -> Self {
        match header.patient_orientation.split('\\').nth(1).map(str::trim) {
            Some("F" | "H") => view,
            _ => Self::Other,
        }
    }

    /// The view that the header claims, if it claims one of the two.
    pub fn view(self) -> Option<View> {
        match self {
            Self::Ap | Self::Pa => Some(View::Frontal),
            Self::Ll | Self::Rl | Self::Lateral => Some(View::Lateral),
            Self::Oblique | Self::Other | Self::Absent => None,
        }
    }
}

/// From which probability on the pixels are sure of a view, and how much the header may be contradicted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ViewThresholds {
    /// The pixels are sure of a view (or of neither) from this probability on, 0 to 1.
    pub sure: f32,
    /// Unsure pixels contradict the header when the other view leads by more than this, 0 to 1.
    pub margin: f32,
}

impl Default for ViewThresholds {
    fn default() -> Self {
        Self {
            sure: 0.9,
            margin: 0.2,
        }
    }
}

/// Settles on a view, or says why not: the table at the top of this file.
pub fn resolve_view(
    header: HeaderView,
    pixels: Option<&ViewScores>,
    thresholds: ViewThresholds,
) -> Result<View, Reason> {
    let Some(scores) = pixels else {
        return match header {
            HeaderView::Oblique => Err(Reason::ObliqueView),
            other => other.view().ok_or(Reason::ViewUnsure),
        };
    };
    let favourite = scores.favourite();
    if scores.neither >= scores.of(favourite) {
        return Err(Reason::OutOfScope);
    }
    let sure = scores.of(favourite) >= thresholds.sure;
    match (header.view(), header) {
        (Some(claimed), _) if claimed == favourite => Ok(claimed),
        (Some(claimed), _) => {
            let lead = scores.of(favourite) - scores.of(claimed);
            if sure || lead > thresholds.margin {
                Err(Reason::ViewConflict)
            } else {
                Ok(claimed)
            }
        }
        (None, HeaderView::Oblique) => Err(Reason::ObliqueView),
        (None, _) if sure => Ok(favourite),
        (None, _) => Err(Reason::ViewUnsure),
    }
}

/// What is done with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Decision {
    /// It goes into its category's folder.
    File {
        /// The category.
        category: CategoryId,
    },
    /// A person should look: `_review/<reason>/`.
    Review {
        /// Why.
        reason: Reason,
    },
    /// DICOM but no radiograph, and the site wants it moved: `_other/`.
    Other {
        /// Why.
        reason: Reason,
    },
    /// It stays where it is.
    Leave {
        /// Why.
        reason: Reason,
    },
    /// DICOM that cannot be read goes to the quarantine.
    Quarantine {
        /// Why.
        reason: Reason,
    },
}

impl Decision {
    /// The reason, `None` for a file that was filed.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::File { .. } => None,
            Self::Review { reason }
            | Self::Other { reason }
            | Self::Leave { reason }
            | Self::Quarantine { reason } => Some(*reason),
        }
    }

    /// The category, `None` unless filed.
    pub fn category(&self) -> Option<&CategoryId> {
        match self {
            Self::File { category } => Some(category),
            _ => None,
        }
    }
}

/// From which joint confidence on a category is filed without a person looking.
pub trait CategoryThreshold {
    /// The least confidence (0 to 1) at which `category` is filed.
    fn threshold(&self, category: &CategoryId) -> f32;

    /// Whether enough is known about the category for it to be filed without a person looking.
    fn is_certified(&self, _category: &CategoryId) -> bool {
        true
    }
}

impl<F: Fn(&CategoryId) -> f32> CategoryThreshold for F {
    fn threshold(&self, category: &CategoryId) -> f32 {
        self(category)
    }
}

/// Turns a prediction into a decision.
pub fn decide(prediction: &Prediction, thresholds: &impl CategoryThreshold) -> Decision {
    if let Some(reason) = prediction.view_problem {
        return Decision::Review { reason };
    }
    if prediction
        .out_of_distribution
        .is_some_and(|distance| distance.is_nan() || distance > 1.0)
    {
        return Decision::Review {
            reason: Reason::OutOfDistribution,
        };
    }
    match prediction.category() {
        Some(category) if prediction.confidence < thresholds.threshold(category) => {
            Decision::Review {
                reason: Reason::LowConfidence,
            }
        }
        Some(category) if !thresholds.is_certified(category) => Decision::Review {
            reason: Reason::UncertifiedCategory,
        },
        Some(category) if prediction.confidence >= thresholds.threshold(category) => {
            Decision::File {
                category: category.clone(),
            }
        }
        // A confidence that is no number is no confidence.
        Some(_) => Decision::Review {
            reason: Reason::LowConfidence,
        },
        None => Decision::Review {
            reason: Reason::ViewUnsure,
        },
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $advice:literal;)*) => {
        /// Why a file is not simply filed. Each has a stable code, which is also its folder's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason {
            $(#[doc = $advice] #[serde(rename = $code)] $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What it means, in a sentence for people.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }

        impl std::str::FromStr for Reason {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($code => Ok(Self::$name),)*
                    _ => Err(format!("{text:?} is no reason; there are: {}",
                        Self::ALL.iter().map(|reason| reason.code()).collect::<Vec<_>>().join(", "))),
                }
            }
        }
    };
}

reasons! {
    LowConfidence = "low-confidence", "The model is not sure enough of the category.";
    ViewConflict = "view-conflict", "Header and pixels disagree about the view.";
    ViewUnsure = "view-unsure", "Neither header nor pixels tell the view.";
    ObliqueView = "oblique-view", "The header says that the view is oblique.";
    OutOfScope = "out-of-scope", "The image is neither of the views that the model knows.";
    OutOfDistribution = "out-of-distribution", "The image is unlike anything that the model was trained on.";
    NoPrediction = "no-prediction", "The model gave no usable answer for this image.";
    UncertifiedCategory = "uncertified-category", "Too few certified images exist to file this category automatically.";
    UidConflict = "uid-conflict", "Another file with the same SOP Instance UID and other bytes is already known.";
    Duplicate = "duplicate", "The same file is already in the library.";
    NoSopInstanceUid = "no-sop-instance-uid", "The file has no SOP Instance UID.";
    InvalidSopInstanceUid = "invalid-sop-instance-uid", "The SOP Instance UID is not a valid UID.";
    Truncated = "truncated", "The file ends before its own structure does, and stayed so for longer than the limit.";
    Malformed = "malformed", "The file's structure cannot be read.";
    UnsupportedTransferSyntax = "unsupported-transfer-syntax", "No decoder for this transfer syntax.";
    CannotDecode = "cannot-decode", "The pixel data cannot be decoded, or does not fit the header.";
    NoPixelData = "no-pixel-data", "A radiograph without pixel data.";
    DecoderCrashed = "decoder-crashed", "The decoder crashed on this file, twice.";
    DecoderTimeout = "decoder-timeout", "Decoding took longer than the limit.";
    DecoderMemory = "decoder-memory", "Decoding needed more memory than the limit.";
    DecoderLied = "decoder-lied", "The decoder's answer does not fit the file; the file may be hostile.";
    Executable = "executable", "The file's first bytes make it a program or a script as well.";
    NotDicom = "non-dicom", "Not a DICOM file.";
    OtherModality = "other-modality", "DICOM, but not a radiograph.";
    Media = "media", "Part of a DICOM medium (a folder with a DICOMDIR).";
    Archive = "archive", "An archive; radsort does not unpack archives.";
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn scores(frontal: f32, lateral: f32) -> ViewScores {
        ViewScores {
            frontal,
            lateral,
            neither: 1.0 - frontal - lateral,
        }
    }

    #[test]
    fn the_table_of_header_and_pixels_holds() {
        use HeaderView::{Absent, Ap, Ll, Oblique, Other, Pa, Rl};
        use Reason::{ObliqueView, OutOfScope, ViewConflict, ViewUnsure};
        let thresholds = ViewThresholds::default();
        let (sure_f, sure_l) = (scores(0.97, 0.02), scores(0.01, 0.98));
        let (lean_l, neither) = (scores(0.45, 0.54), scores(0.1, 0.1));
        let strong_l = scores(0.2, 0.7);
        for (header, pixels, expected) in [
            (Ap, sure_f, Ok(View::Frontal)),
            (Pa, sure_l, Err(ViewConflict)),
            (Ap, lean_l, Ok(View::Frontal)),
            (Ap, strong_l, Err(ViewConflict)),
            (Ll, sure_l, Ok(View::Lateral)),
            (Rl, sure_f, Err(ViewConflict)),
            (Ll, strong_l, Ok(View::Lateral)),
            (Oblique, sure_f, Err(ObliqueView)),
            (Oblique, neither, Err(OutOfScope)),
            (Other, sure_l, Ok(View::Lateral)),
            (Absent, sure_f, Ok(View::Frontal)),
            (Absent, lean_l, Err(ViewUnsure)),
            (Absent, neither, Err(OutOfScope)),
            (Ap, neither, Err(OutOfScope)),
        ] {
            assert_eq!(
                resolve_view(header, Some(&pixels), thresholds),
                expected,
                "{header:?} {pixels:?}"
            );
        }
        assert_eq!(resolve_view(Ap, None, thresholds), Ok(View::Frontal));
        assert_eq!(resolve_view(Absent, None, thresholds), Err(ViewUnsure));
    }

    #[test]
    fn the_header_is_read_by_view_position_then_code_then_orientation() {
        let read = |position: &str, code: &str, orientation: &str| {
            HeaderView::of(&Description {
                view_position: position.into(),
                view_code: code.into(),
                patient_orientation: orientation.into(),
                ..Description::default()
            })
        };
        assert_eq!(read("PA", "", "P\\F"), HeaderView::Pa);
        assert_eq!(read("", "antero-posterior", ""), HeaderView::Ap);
        assert_eq!(
            read("", "antero-posterior oblique", ""),
            HeaderView::Oblique
        );
        assert_eq!(read("", "", "L\\F"), HeaderView::Ap);
        assert_eq!(read("", "", "A\\F"), HeaderView::Lateral);
        assert_eq!(read("", "", "A\\R"), HeaderView::Other);
        assert_eq!(read("XY", "", "L\\F"), HeaderView::Other);
        assert_eq!(read("", "", ""), HeaderView::Absent);
    }

    /// Every category is filed from 0.5 on, but of `unknown` too little is known.
    struct Promise;

    impl CategoryThreshold for Promise {
        fn threshold(&self, _: &CategoryId) -> f32 {
            0.5
        }

        fn is_certified(&self, category: &CategoryId) -> bool {
            category.as_str() != "unknown"
        }
    }

    #[test]
    fn an_uncertified_category_goes_to_review_under_its_own_reason_however_sure_the_model_is() {
        let decided = |category: &str, confidence: f32| {
            let prediction = Prediction {
                header_view: HeaderView::Ap,
                view_scores: None,
                view: Some(View::Frontal),
                view_problem: None,
                scores: vec![Score {
                    category: CategoryId::parse(category).unwrap(),
                    probability: confidence,
                }],
                confidence,
                out_of_distribution: None,
                model: String::new(),
                provider: String::new(),
            };
            decide(&prediction, &Promise).reason()
        };
        assert_eq!(decided("known", 0.99), None);
        assert_eq!(decided("unknown", 0.99), Some(Reason::UncertifiedCategory));
        assert_eq!(decided("unknown", 0.4), Some(Reason::LowConfidence));
        assert_eq!(decided("known", f32::NAN), Some(Reason::LowConfidence));
    }

    #[test]
    fn the_manual_explains_every_reason_in_these_words() {
        let manual = include_str!("../../docs/reasons.md");
        for reason in Reason::ALL {
            let row = format!("| `{}` | {} |", reason.code(), reason.explanation());
            assert!(manual.contains(&row), "docs/reasons.md lacks: {row}");
        }
    }

    #[test]
    fn every_reason_reads_back_from_its_code() {
        for reason in Reason::ALL {
            assert_eq!(reason.code().parse::<Reason>().unwrap(), *reason);
        }
    }

    proptest! {
        #[test]
        fn nothing_unsure_is_ever_filed(confidence in 0f32..1.0, threshold in 0f32..1.0, distance in 0f32..2.0) {
            let prediction = Prediction {
                header_view: HeaderView::Ap,
                view_scores: None,
                view: Some(View::Frontal),
                view_problem: None,
                scores: vec![Score { category: CategoryId::parse("a").unwrap(), probability: confidence }],
                confidence,
                out_of_distribution: Some(distance),
                model: String::new(),
                provider: String::new(),
            };
            let filed = matches!(decide(&prediction, &|_: &CategoryId| threshold), Decision::File { .. });
            prop_assert_eq!(filed, confidence >= threshold && distance <= 1.0);
        }
    }
}
