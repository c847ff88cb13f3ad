//! What each classifier of the phantom bundle is to learn: its classes, the pictures that it gets, the phantoms that it is
//! asked about.

use super::phantoms::Labelled;
use super::train::Pictures;
use crate::decode::{Fit, Intensity, Polarity, RenderSpec, Resampler};
use crate::model::manifest::{Applies, Role, VIEW_CLASSES};
use crate::phantom::CATEGORIES;

/// How many treatments of one view there are: so many neighbours are one image under all of them.
pub const SIBLINGS: usize = 5;

/// What one classifier is to learn.
pub struct Task {
    /// The classifier's name in the bundle.
    pub id: &'static str,
    /// A view or a category classifier.
    pub role: Role,
    /// To images of which view it applies.
    pub applies: Applies,
    /// Sets its random weights and order apart from the others'.
    pub seed: u64,
}

impl Task {
    /// Frontal, lateral or neither.
    pub const VIEW: Self = Self {
        id: "view",
        role: Role::View,
        applies: Applies::Any,
        seed: 1,
    };
    /// All categories of both views: what is trained.
    pub const CATEGORIES: Self = Self {
        id: "categories",
        role: Role::Category,
        applies: Applies::Any,
        seed: 2,
    };
    /// The frontal categories: what is shipped.
    pub const FRONTAL: Self = Self {
        id: "frontal",
        role: Role::Category,
        applies: Applies::Frontal,
        seed: 2,
    };
    /// The lateral categories: what is shipped.
    pub const LATERAL: Self = Self {
        id: "lateral",
        role: Role::Category,
        applies: Applies::Lateral,
        seed: 3,
    };

    /// The picture that it gets.
    pub fn render(&self) -> RenderSpec {
        if self.role == Role::View {
            view_spec()
        } else {
            category_spec()
        }
    }

    /// The class names in the order of the logits.
    pub fn classes(&self) -> Vec<&'static str> {
        let ids = |categories: &[(&'static str, _)]| categories.iter().map(|(id, _)| *id).collect();
        match (self.role, self.applies) {
            (Role::View, _) => VIEW_CLASSES.to_vec(),
            (Role::Category, Applies::Any) => ids(&CATEGORIES),
            (Role::Category, Applies::Frontal) => ids(&CATEGORIES[..5]),
            (Role::Category, Applies::Lateral) => ids(&CATEGORIES[5..]),
        }
    }

    /// The class of a phantom; None when this classifier is not asked about it.
    pub fn class(&self, phantom: &Labelled) -> Option<usize> {
        let name = match self.role {
            Role::View => phantom.truth.view.as_str(),
            Role::Category => phantom.truth.category?,
        };
        self.classes().iter().position(|class| *class == name)
    }

    /// The phantoms that it is asked about: the picture as it gets it, its class, and whether it is a normal one.
    pub fn asked<'a>(&self, phantoms: &[&'a Labelled]) -> Vec<(&'a Vec<u16>, usize, bool)> {
        let which = usize::from(self.role == Role::Category);
        phantoms
            .iter()
            .filter_map(|p| Some((p.pictures.get(which)?, self.class(p)?, p.normal)))
            .collect()
    }

    /// [`asked`](Self::asked) for training or answering.
    pub fn pictures(&self, phantoms: &[&Labelled]) -> Pictures {
        let RenderSpec { height, width, .. } = self.render();
        let samples: Vec<_> = self
            .asked(phantoms)
            .into_iter()
            .map(|(pixels, class, _)| (pixels.clone(), class))
            .collect();
        let groups = match self.role {
            Role::View => Vec::new(),
            Role::Category => vec![SIBLINGS; samples.len().div_ceil(SIBLINGS)],
        };
        Pictures {
            height: height as usize,
            width: width as usize,
            samples,
            groups,
        }
    }
}

/// The sizes are those of a full spine film, about 1 to 1.6.
pub fn view_spec() -> RenderSpec {
    RenderSpec {
        height: 128,
        width: 80,
        ..category_spec()
    }
}

/// Percentiles instead of windows: what a vendor's window clips or how it is set does not matter then.
pub fn category_spec() -> RenderSpec {
    RenderSpec {
        height: 256,
        width: 160,
        fit: Fit::Letterbox,
        pad: 0.0,
        resampler: Resampler::Area,
        intensity: Intensity::Percentile { lo: 0.5, hi: 99.5 },
        polarity: Polarity::Monochrome2,
    }
}
