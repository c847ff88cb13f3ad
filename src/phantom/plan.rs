//! Which images there will be: categories, patients, studies. Pixels come later, from each plan alone.

use super::anatomy::{Patient, Spine};
use super::canvas::{Canvas, Frame, P};
use super::detector::{Detector, Picture};
use super::devices::{self, Treatment};
use super::dice::Dice;
use super::outside::{Other, OutsideKind};
use super::{
    CATEGORIES, Difficulty, Imbalance, Phantom, Photometric, PlanOptions, TrueView, Truth, frontal,
    header, lateral,
};

/// What one image will show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Frontal(Treatment),
    Lateral(Treatment),
    Other(Other),
}

/// The treatments in the order of [`CATEGORIES`], within each view.
const TREATMENTS: [Treatment; 5] = [
    Treatment::None,
    Treatment::Brace,
    Treatment::Fusion,
    Treatment::GrowingRods,
    Treatment::Tether,
];

/// Shares of the ten categories as in the paper that this follows: 7777 frontal and 5621 lateral images; how it divides
/// each view is not repeated here, so the shares within a view are an assumption (most without any device, few with rare ones).
const PAPER: [f32; 10] = [
    7777.0 * 0.56,
    7777.0 * 0.15,
    7777.0 * 0.21,
    7777.0 * 0.045,
    7777.0 * 0.035,
    5621.0 * 0.56,
    5621.0 * 0.15,
    5621.0 * 0.21,
    5621.0 * 0.045,
    5621.0 * 0.035,
];

impl Subject {
    fn of(category: usize) -> Self {
        let treatment = TREATMENTS[category % 5];
        if category < 5 {
            Self::Frontal(treatment)
        } else {
            Self::Lateral(treatment)
        }
    }

    fn treatment(self) -> Treatment {
        match self {
            Self::Frontal(t) | Self::Lateral(t) => t,
            Self::Other(_) => Treatment::None,
        }
    }

    fn truth(self, patient: &str) -> Truth {
        let place = |t: Treatment| TREATMENTS.iter().position(|&other| other == t).unwrap_or(0);
        let (category, view) = match self {
            Self::Frontal(t) => (Some(CATEGORIES[place(t)].0), TrueView::Frontal),
            Self::Lateral(t) => (Some(CATEGORIES[5 + place(t)].0), TrueView::Lateral),
            Self::Other(_) => (None, TrueView::Neither),
        };
        Truth {
            category,
            view,
            patient: patient.to_owned(),
        }
    }
}

/// One image to be: small, cheap to copy, and all that is needed to draw it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the image shows.
    pub truth: Truth,
    /// SOP Instance UID, under 2.25.
    pub sop_instance_uid: String,
    /// Study Instance UID; images of one visit share it.
    pub study_instance_uid: String,
    /// Series Instance UID; each image has its own.
    pub series_instance_uid: String,
    pub(super) subject: Subject,
    pub(super) seed: u64,
    /// Number of the image in its set; keys the streams of pose and nuisance.
    pub(super) number: u64,
    pub(super) patient: u64,
    /// The visit's place in the patient's history, from 0.
    pub(super) visit: u64,
    pub(super) difficulty: Difficulty,
    pub(super) size: Option<(u32, u32)>,
}

/// What images of neither view show unless that is said.
const OTHERS: [Other; 4] = [Other::Chest, Other::Hand, Other::Noise, Other::Pelvis];

/// Plans `options.count` images. The same options give the same plans on any machine.
pub fn plan(options: &PlanOptions) -> Vec<Plan> {
    plan_with(options, &[])
}

/// The same, with images of neither view that show these things in turn; of none, the usual ones.
pub fn plan_with(options: &PlanOptions, kinds: &[OutsideKind]) -> Vec<Plan> {
    let others = match kinds {
        [] => OTHERS.to_vec(),
        kinds => kinds.iter().copied().map(Other::from).collect(),
    };
    let seed = options.seed;
    let mut dice = Dice::new(seed, "set", 0);
    let outside = (options.count as f32 * options.outside.clamp(0.0, 1.0)).round() as usize;
    let shares = match options.imbalance {
        Imbalance::Paper => PAPER,
        Imbalance::Even => [1.0; 10],
    };
    let mut subjects: Vec<Subject> = apportion(options.count - outside, &shares)
        .into_iter()
        .map(Subject::of)
        .collect();
    subjects.extend((0..outside).map(|n| Subject::Other(others[n % others.len()])));
    dice.shuffle(&mut subjects);

    // Patients come back: an image goes to a patient with room whose treatment it fits, else to a new one.
    let mut open: Vec<History> = Vec::new();
    let mut patients = 0;
    let mut plans = Vec::with_capacity(subjects.len());
    for (number, subject) in subjects.into_iter().enumerate() {
        let number = number as u64;
        let at = open
            .iter()
            .position(|history| history.takes(subject))
            .unwrap_or_else(|| {
                patients += 1;
                open.push(History::new(patients, &mut dice));
                open.len() - 1
            });
        let history = &mut open[at];
        let visit = history.add(subject);
        let mut uids = Dice::new(seed, "uid", number);
        let study = Dice::new(seed, "study", history.patient << 8 | visit).uid();
        plans.push(Plan {
            // Those of another seed are other people.
            truth: subject.truth(&format!("PH{seed}-{:04}", history.patient)),
            sop_instance_uid: uids.uid(),
            study_instance_uid: study,
            series_instance_uid: uids.uid(),
            subject,
            seed,
            number,
            patient: history.patient,
            visit,
            difficulty: options.difficulty,
            size: options.size,
        });
        if history.room == 0 {
            open.remove(at);
        }
    }
    plans
}

/// Divides `count` by `shares` (largest remainders); each share gets its number of items, in order.
fn apportion(count: usize, shares: &[f32; 10]) -> Vec<usize> {
    let total: f32 = shares.iter().sum();
    let exact: Vec<f32> = shares.iter().map(|s| s / total * count as f32).collect();
    let mut numbers: Vec<usize> = exact.iter().map(|e| *e as usize).collect();
    let mut by_remainder: Vec<usize> = (0..shares.len()).collect();
    by_remainder.sort_by(|&a, &b| {
        exact[b]
            .fract()
            .total_cmp(&exact[a].fract())
            .then(a.cmp(&b))
    });
    let missing = count - numbers.iter().sum::<usize>();
    for &n in by_remainder.iter().cycle().take(missing) {
        numbers[n] += 1;
    }
    numbers
        .iter()
        .enumerate()
        .flat_map(|(n, &times)| std::iter::repeat_n(n, times))
        .collect()
}

/// A patient's images so far.
struct History {
    patient: u64,
    room: u32,
    /// The one device this patient has or will have.
    device: Option<Treatment>,
    visits: Vec<Vec<Subject>>,
}

impl History {
    fn new(patient: u64, dice: &mut Dice) -> Self {
        Self {
            patient,
            room: dice.pick(&[1, 1, 2, 2, 2, 3, 4, 5]),
            device: None,
            visits: Vec::new(),
        }
    }

    fn takes(&self, subject: Subject) -> bool {
        let operated = matches!(
            subject.treatment(),
            Treatment::Fusion | Treatment::GrowingRods | Treatment::Tether
        );
        self.room > 0
            && (!operated
                || self
                    .device
                    .is_none_or(|device| device == subject.treatment()))
    }

    /// Puts the image into a visit with the same treatment and another view, or into a new visit.
    fn add(&mut self, subject: Subject) -> u64 {
        self.room -= 1;
        let treatment = subject.treatment();
        if !matches!(treatment, Treatment::None | Treatment::Brace) {
            self.device = Some(treatment);
        }
        let fits = |visit: &Vec<Subject>| {
            !matches!(subject, Subject::Other(_))
                && !visit.contains(&subject)
                && visit.iter().all(|s| s.treatment() == treatment)
        };
        let at = self.visits.iter().position(fits).unwrap_or_else(|| {
            self.visits.push(Vec::new());
            self.visits.len() - 1
        });
        self.visits[at].push(subject);
        at as u64
    }
}

impl Plan {
    /// The same patient, pose, detector and nuisances under another treatment of the same view, for training: only the
    /// device tells such siblings apart. `None` if the image is of neither view, or the category of the other view.
    pub fn treated_as(&self, category: &str) -> Option<Self> {
        let place = CATEGORIES.iter().position(|(id, _)| *id == category)?;
        let subject = Subject::of(place);
        let same_view = matches!(
            (self.subject, subject),
            (Subject::Frontal(_), Subject::Frontal(_)) | (Subject::Lateral(_), Subject::Lateral(_))
        );
        same_view.then(|| Self {
            truth: subject.truth(&self.truth.patient),
            subject,
            ..self.clone()
        })
    }

    /// Columns and rows of the detector that took this image, whatever size was asked for: 2000–3000 × 3000–4300.
    pub fn natural_size(&self) -> (u32, u32) {
        let detector = self.detector();
        (detector.columns, detector.rows)
    }

    /// Draws at the size the plan was made for: the one asked for, else the detector's own.
    pub fn draw(&self) -> Phantom {
        let (columns, rows) = self.size.unwrap_or_else(|| self.natural_size());
        self.draw_at(columns, rows)
    }

    /// Draws at the largest size with the detector's aspect that fits into `columns` × `rows`.
    pub fn draw_within(&self, columns: u32, rows: u32) -> Phantom {
        let (c, r) = self.natural_size();
        let shrink = (columns as f32 / c as f32).min(rows as f32 / r as f32);
        self.draw_at(
            (c as f32 * shrink).round().max(1.0) as u32,
            (r as f32 * shrink).round().max(1.0) as u32,
        )
    }

    fn nuisance(&self) -> Dice {
        Dice::new(self.seed, "nuisance", self.number)
    }

    fn detector(&self) -> Detector {
        Detector::new(&mut self.nuisance(), self.difficulty)
    }

    /// Draws at any size from about 64 pixels up. Noise is that of the full detector, averaged down to these pixels.
    pub fn draw_at(&self, columns: u32, rows: u32) -> Phantom {
        let detector = self.detector();
        let patient = Patient::new(self.seed, self.patient);
        let mut pose = Dice::new(self.seed, "pose", self.number);
        let hard = self.difficulty == Difficulty::Hard;
        let treatment = self.subject.treatment();
        let remaining = treatment.remaining(&mut Dice::new(self.seed, "correction", self.patient));
        let spine = match self.subject {
            Subject::Lateral(_) => Spine::lateral(&patient),
            Subject::Frontal(_) => Spine::frontal(&patient, remaining * pose.between(0.9, 1.1)),
            Subject::Other(_) => Spine::frontal(&patient, 0.15),
        };
        let field = match self.subject {
            Subject::Other(other) => other.field(&patient, &spine),
            _ => spine_field(&patient, &spine, hard, &mut pose),
        };
        // Films of the spine may be shown as seen from behind; laterals face either way.
        let mirror = match self.subject {
            Subject::Lateral(_) => pose.sign(),
            Subject::Frontal(_) => {
                if pose.chance(0.3) {
                    -1.0
                } else {
                    1.0
                }
            }
            Subject::Other(_) => 1.0,
        };
        let (width, height) = (field[2] - field[0], field[3] - field[1]);
        let scale = match self.subject {
            Subject::Other(_) => (columns as f32 / width).min(rows as f32 / height),
            _ => rows as f32 / height,
        };
        let shift = detector_shift(&mut pose, hard);
        let middle = P(
            f32::midpoint(field[0], field[2]) * mirror,
            f32::midpoint(field[1], field[3]),
        );
        let frame_at = |scale: f32, columns: f32, rows: f32| {
            let (sin, cos) = detector.turn.sin_cos();
            Frame {
                scale,
                turn: detector.turn,
                mirror,
                origin: P(
                    columns * (0.5 + shift) - scale * (middle.0 * cos - middle.1 * sin),
                    rows * 0.5 - scale * (middle.0 * sin + middle.1 * cos),
                ),
            }
        };
        // Anatomy is smooth: half a millimetre is fine enough for it. Metal, markers and noise get every pixel.
        let coarse = (scale * 0.55).max(1.0);
        let (low_columns, low_rows) = (
            (columns as f32 / coarse).round() as usize,
            (rows as f32 / coarse).round() as usize,
        );
        let low_scale = scale * low_columns as f32 / columns as f32;
        let mut canvas = Canvas::new(
            low_columns,
            low_rows,
            frame_at(low_scale, low_columns as f32, low_rows as f32),
        );
        match self.subject {
            Subject::Frontal(_) => frontal::paint(&mut canvas, &patient, &spine, &mut pose),
            Subject::Lateral(_) => lateral::paint(&mut canvas, &patient, &spine, &mut pose),
            Subject::Other(other) => other.paint(&mut canvas, &patient, &spine, &mut pose),
        }
        let metal = |canvas: &mut Canvas| {
            let mut construct = Dice::new(self.seed, "construct", self.patient);
            match self.subject {
                Subject::Frontal(t) => {
                    devices::frontal(canvas, t, &patient, &spine, &mut construct);
                }
                Subject::Lateral(t) => {
                    devices::lateral(canvas, t, &patient, &spine, &mut construct);
                }
                Subject::Other(_) => {}
            }
            if !matches!(self.subject, Subject::Other(Other::Noise | Other::Hand)) {
                let mut things = Dice::new(self.seed, "bystanders", self.number);
                devices::bystanders(canvas, &patient, &spine, hard, &mut things);
            }
        };
        let size = (columns as usize, rows as usize);
        let mut picture = detector.expose(canvas, size, metal);
        if let Subject::Other(other) = self.subject {
            let most = u16::MAX >> (16 - detector.bits_stored);
            let inverse = detector.photometric == Photometric::Monochrome1;
            if let Some(grey) = other.no_radiograph(size, &mut pose) {
                picture = Picture::of_grey(&grey, most, inverse);
            }
        }
        let (header, photometric) = header::describe(self, &patient, &detector, &picture, scale);
        Phantom {
            rows,
            columns,
            bits_stored: detector.bits_stored,
            photometric,
            pixels: picture.pixels,
            header,
        }
    }
}

/// The field of a full spine: from the skull's base or the mouth to below the hips. Hard images may lose one end.
fn spine_field(patient: &Patient, spine: &Spine, hard: bool, pose: &mut Dice) -> [f32; 4] {
    let k = patient.size;
    let top = spine.top().1;
    let mut upper = top - pose.between(80.0, 190.0) * k * patient.head.sqrt();
    let mut lower = pose.between(115.0, 200.0) * k;
    let (cropped, at_top) = (pose.chance(0.45), pose.chance(0.5));
    let (above, below) = (pose.between(-60.0, 70.0) * k, pose.between(-30.0, 90.0) * k);
    if hard && cropped {
        if at_top {
            upper = top + above;
        } else {
            lower = below;
        }
    }
    let middle = (spine.top().0 * 0.5) + pose.normal(0.0, 6.0);
    [middle - 170.0, upper, middle + 170.0, lower]
}

fn detector_shift(pose: &mut Dice, hard: bool) -> f32 {
    pose.normal(0.0, if hard { 0.06 } else { 0.02 })
}
