//! What parent and jail say to each other, and how the parent checks it.
//!
//! On the control socket, one packet each: [`Hello`] when the zygote is locked in, [`Request`] with two descriptors
//! (the file, and where to answer), [`Farewell`] when the child has ended. These come from trusted code.
//! On the reply socket, from a child that untrusted bytes may have taken over: the [`Answer`], checked by
//! [`read_answer`] as if an enemy had written it. Nothing is believed but sizes that were asked for.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::confine::{Confinement, Limits};
use super::{Completeness, Content, Fault, Inspection, Radiograph, RenderSpec, Resolution, Spent};
use crate::domain::Reason;
use crate::domain::instance::{Description, Header};
use crate::domain::placement::is_invisible;

/// The largest packet on the control socket, bytes.
pub const MAX_PACKET: usize = 64 * 1024;
/// The largest JSON part of an answer, bytes.
pub const MAX_JSON: usize = 64 * 1024;
/// The largest tensors of one answer, all together, values.
pub const MAX_VALUES: u64 = 64 * 1024 * 1024;

/// The first bytes of an answer; the last one is the version.
const MAGIC: [u8; 4] = *b"RSA\x01";

/// The zygote's first packet: whether it is locked in.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hello {
    /// It is, and waits for requests.
    Ready(Confinement),
    /// It could not be, and has ended.
    Failed(String),
}

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The question.
    pub ask: Ask,
    /// The file's size when it was opened, bytes.
    pub size: u64,
    /// What the child may use.
    pub limits: Limits,
}

/// The question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// The header pass.
    Inspect,
    /// The header pass, and a radiograph for each specification.
    Decode(Vec<RenderSpec>, Resolution),
}

/// How a child ended, told by the zygote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Farewell {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// CPU time that it took, milliseconds.
    pub cpu_ms: u64,
    /// Its last words were that memory ran out.
    pub out_of_memory: bool,
}

/// What the child says, without the pixels.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// The header pass, asked for by [`Ask::Inspect`].
    Inspected(Inspection),
    /// The header pass, asked for by [`Ask::Decode`]; one tensor for each specification follows if it is a radiograph.
    Decoded {
        /// The header pass.
        inspection: Inspection,
        /// The tensors are made from fewer samples than the file has pixels.
        reduced: bool,
        /// What the parts took.
        spent: Spent,
    },
    /// The file cannot be decoded.
    Fault(Fault),
    /// The file cannot be read or has become shorter: an error of the system (`errno`, or none).
    Unreadable(Option<i32>),
}

/// A checked answer.
pub enum Answer {
    /// The header pass.
    Inspected(Inspection),
    /// The header pass and the pixels; whether these are reduced and what they took is the child's own word.
    Decoded {
        /// The header pass.
        inspection: Inspection,
        /// One for each specification, if it is a radiograph.
        radiographs: Vec<Radiograph>,
        /// They are made from fewer samples than the file has pixels.
        reduced: bool,
        /// What the parts took.
        spent: Spent,
    },
    /// The file cannot be decoded.
    Fault(Fault),
    /// The file cannot be read.
    Unreadable(io::Error),
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// It ends too early: the child has ended, or gave up.
    #[error("the answer ends too early")]
    Short,
    /// It did not come in time.
    #[error("the answer did not come in time")]
    Late,
    /// It says what cannot be.
    #[error("{0}")]
    Lie(&'static str),
    /// Reading failed.
    #[error("the answer cannot be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Short,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Late,
            _ => Self::Io(error),
        }
    }
}

/// Writes an answer: magic, length of the JSON part (`u32`), the JSON part, then the tensors (`f32`), little-endian.
pub fn write_answer(
    to: &mut impl Write,
    said: &Said,
    radiographs: &[Radiograph],
) -> io::Result<()> {
    let json = serde_json::to_vec(said)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(MAX_JSON);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&json);
    for value in radiographs.iter().flat_map(|radiograph| &radiograph.pixels) {
        if bytes.len() >= MAX_JSON {
            to.write_all(&bytes)?;
            bytes.clear();
        }
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    to.write_all(&bytes)
}

/// Reads an answer to `ask` until its end, and checks it.
pub fn read_answer(from: &mut impl Read, ask: &Ask) -> Result<Answer, Flaw> {
    let mut head = [0; 8];
    from.read_exact(&mut head)?;
    let [m0, m1, m2, m3, length @ ..] = head;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(Flaw::Lie("the answer does not start as answers do"));
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_JSON {
        return Err(Flaw::Lie("the answer's header part is too long"));
    }
    let mut json = vec![0; length];
    from.read_exact(&mut json)?;
    let said = serde_json::from_slice(&json)
        .map_err(|_| Flaw::Lie("the answer's header part cannot be parsed"))?;
    let answer = match (said, ask) {
        (Said::Inspected(inspection), Ask::Inspect) => {
            Answer::Inspected(checked_inspection(inspection)?)
        }
        (
            Said::Decoded {
                inspection,
                reduced,
                spent,
            },
            Ask::Decode(specs, _),
        ) => {
            let inspection = checked_inspection(inspection)?;
            let specs = if matches!(inspection.content, Content::Radiograph { .. }) {
                specs.as_slice()
            } else {
                &[]
            };
            let radiographs = specs
                .iter()
                .map(|spec| read_radiograph(from, spec))
                .collect::<Result<_, _>>()?;
            Answer::Decoded {
                inspection,
                radiographs,
                reduced,
                spent,
            }
        }
        (Said::Fault(fault), _) => Answer::Fault(checked_fault(&fault)?),
        (Said::Unreadable(errno), _) => Answer::Unreadable(match errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was decoded",
            ),
        }),
        _ => return Err(Flaw::Lie("the answer is to another question")),
    };
    match from.read(&mut [0])? {
        0 => Ok(answer),
        _ => Err(Flaw::Lie("the answer is longer than it should be")),
    }
}

/// Reads exactly the tensor that was asked for.
fn read_radiograph(from: &mut impl Read, spec: &RenderSpec) -> Result<Radiograph, Flaw> {
    let count = values(spec) as usize;
    let mut pixels = Vec::with_capacity(count);
    let mut buffer = vec![0; (count * 4).min(64 * 1024)];
    while pixels.len() < count {
        let part = ((count - pixels.len()) * 4).min(buffer.len());
        let Some(part) = buffer.get_mut(..part) else {
            return Err(Flaw::Short);
        };
        from.read_exact(part)?;
        let (quads, _) = part.as_chunks::<4>();
        pixels.extend(quads.iter().map(|quad| f32::from_le_bytes(*quad)));
    }
    if pixels.iter().all(|value| (0.0..=1.0).contains(value)) {
        Ok(Radiograph {
            height: spec.height,
            width: spec.width,
            pixels,
        })
    } else {
        Err(Flaw::Lie(
            "the answer holds a grey value that is not from 0 to 1",
        ))
    }
}

/// How many values a specification asks for.
pub fn values(spec: &RenderSpec) -> u64 {
    u64::from(spec.height) * u64::from(spec.width)
}

fn checked_inspection(inspection: Inspection) -> Result<Inspection, Flaw> {
    if inspection.completeness == Completeness::ShortBy(0) {
        return Err(Flaw::Lie("the answer says that a file is short by nothing"));
    }
    let content = match inspection.content {
        Content::NotDicom => Content::NotDicom,
        Content::Archive => Content::Archive,
        Content::Dicomdir => Content::Dicomdir,
        Content::Other { header } => Content::Other {
            header: checked_header(header),
        },
        Content::Radiograph { header } => Content::Radiograph {
            header: checked_header(header),
        },
        Content::Damaged { header, fault } => Content::Damaged {
            header: checked_header(header),
            fault: checked_fault(&fault)?,
        },
    };
    Ok(Inspection {
        completeness: inspection.completeness,
        content,
    })
}

/// A fault whose reason is the decoder's to give, and whose detail is a line of text.
fn checked_fault(fault: &Fault) -> Result<Fault, Flaw> {
    use Reason::{
        CannotDecode, DecoderCrashed, DecoderMemory, Malformed, NoPixelData, NotDicom, Truncated,
        UnsupportedTransferSyntax,
    };
    match fault.reason {
        CannotDecode
        | DecoderCrashed
        | DecoderMemory
        | Malformed
        | NoPixelData
        | NotDicom
        | Truncated
        | UnsupportedTransferSyntax => Ok(Fault::new(fault.reason, text(&fault.detail, 300))),
        _ => Err(Flaw::Lie(
            "the answer gives a reason that is not the decoder's to give",
        )),
    }
}

/// A header with bounded texts, whatever the child sent.
///
/// Identifiers are never shortened to something valid: a UID that is too long or holds a control character must not
/// become another UID, nor one patient another.
fn checked_header(header: Header) -> Header {
    let d = header.description;
    Header {
        sop_instance_uid: identifier(&header.sop_instance_uid),
        study_instance_uid: identifier(&header.study_instance_uid),
        series_instance_uid: identifier(&header.series_instance_uid),
        patient_id: identifier(&header.patient_id),
        issuer_of_patient_id: identifier(&header.issuer_of_patient_id),
        executable: header.executable,
        description: Description {
            sop_class_uid: text(&d.sop_class_uid, 64),
            transfer_syntax_uid: text(&d.transfer_syntax_uid, 64),
            modality: text(&d.modality, 64),
            study_date: study_date(&d.study_date),
            view_position: text(&d.view_position, 64),
            patient_orientation: text(&d.patient_orientation, 64),
            view_code: text(&d.view_code, 64),
            laterality: text(&d.laterality, 64),
            body_part_examined: text(&d.body_part_examined, 64),
            patient_age: text(&d.patient_age, 64),
            manufacturer: text(&d.manufacturer, 64),
            manufacturer_model_name: text(&d.manufacturer_model_name, 64),
            photometric_interpretation: text(&d.photometric_interpretation, 64),
            rows: d.rows,
            columns: d.columns,
            number_of_frames: d.number_of_frames,
            bits_allocated: d.bits_allocated,
            bits_stored: d.bits_stored,
        },
    }
}

/// Text for people: no control characters, at most so many characters.
fn text(text: &str, most: usize) -> String {
    text.chars()
        .filter(|c| !is_invisible(*c))
        .take(most)
        .collect()
}

/// An identifier without the padding that PS3.5 allows; control characters inside become U+FFFD, which no UID contains.
fn identifier(text: &str) -> String {
    const MOST: usize = 1024; // Far beyond every VR: only a liar gets there, and a UID of that length stays invalid.
    let trimmed = text.trim_end_matches(['\0', ' ']).trim_start_matches(' ');
    trimmed
        .chars()
        .map(|c| {
            if is_invisible(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .take(MOST)
        .collect()
}

/// `YYYYMMDD`, or nothing: the date becomes part of a path.
fn study_date(text: &str) -> String {
    if text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        text.to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn spec(height: u32, width: u32) -> RenderSpec {
        serde_json::from_value(serde_json::json!({ "height": height, "width": width })).unwrap()
    }

    fn radiograph(header: Header) -> Inspection {
        Inspection {
            completeness: Completeness::Complete,
            content: Content::Radiograph { header },
        }
    }

    const SPENT: Spent = Spent {
        header_us: 40,
        codec_us: 5_000,
        render_us: 300,
    };

    fn decoded(header: Header) -> Said {
        Said::Decoded {
            inspection: radiograph(header),
            reduced: true,
            spent: SPENT,
        }
    }

    /// What the parent makes of an answer.
    fn told(said: &Said, pixels: Vec<f32>, ask: &Ask) -> Result<Answer, Flaw> {
        let mut bytes = Vec::new();
        write_answer(
            &mut bytes,
            said,
            &[Radiograph {
                height: 0,
                width: 0,
                pixels,
            }],
        )
        .unwrap();
        read_answer(&mut bytes.as_slice(), ask)
    }

    fn header_after(header: Header) -> Header {
        match told(&Said::Inspected(radiograph(header)), vec![], &Ask::Inspect) {
            Ok(Answer::Inspected(Inspection {
                content: Content::Radiograph { header },
                ..
            })) => header,
            _ => Header::default(),
        }
    }

    #[test]
    fn an_honest_answer_arrives_as_it_was_sent() {
        let ask = Ask::Decode(vec![spec(2, 3), spec(1, 1)], Resolution::Full);
        let pixels = vec![0.0, 1.0, 0.25, 0.5, 0.75, f32::MIN_POSITIVE, 0.125];
        let Ok(Answer::Decoded {
            inspection,
            radiographs,
            reduced,
            spent,
        }) = told(&decoded(Header::default()), pixels.clone(), &ask)
        else {
            panic!("refused")
        };
        assert!(reduced);
        assert_eq!(inspection.completeness, Completeness::Complete);
        assert_eq!(spent, SPENT);
        assert_eq!(
            radiographs
                .iter()
                .map(|r| (r.height, r.width))
                .collect::<Vec<_>>(),
            [(2, 3), (1, 1)]
        );
        assert_eq!(radiographs.concat_pixels(), pixels);
    }

    trait ConcatPixels {
        fn concat_pixels(&self) -> Vec<f32>;
    }
    impl ConcatPixels for Vec<Radiograph> {
        fn concat_pixels(&self) -> Vec<f32> {
            self.iter().flat_map(|r| r.pixels.clone()).collect()
        }
    }

    #[test]
    fn a_value_that_is_no_grey_value_is_a_lie() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.001, 1.001] {
            let said = decoded(Header::default());
            let answer = told(
                &said,
                vec![0.5, value],
                &Ask::Decode(vec![spec(1, 2)], Resolution::AsNeeded),
            );
            assert!(matches!(answer, Err(Flaw::Lie(_))), "{value}");
        }
    }

    #[test]
    fn an_answer_of_another_size_is_refused() {
        let ask = Ask::Decode(vec![spec(2, 2)], Resolution::AsNeeded);
        let said = || decoded(Header::default());
        assert!(matches!(
            told(&said(), vec![0.5; 3], &ask),
            Err(Flaw::Short)
        ));
        assert!(matches!(
            told(&said(), vec![0.5; 5], &ask),
            Err(Flaw::Lie(_))
        ));
        let fault = Said::Fault(Fault::new(Reason::Malformed, "x"));
        assert!(matches!(told(&fault, vec![0.5], &ask), Err(Flaw::Lie(_))));
    }

    #[test]
    fn an_announced_giant_is_refused_before_memory_is_taken_for_it() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            read_answer(&mut bytes.as_slice(), &Ask::Inspect),
            Err(Flaw::Lie(_))
        ));
    }

    #[test]
    fn an_answer_to_another_question_is_a_lie() {
        let said = Said::Inspected(radiograph(Header::default()));
        assert!(matches!(
            told(&said, vec![], &Ask::Decode(vec![], Resolution::AsNeeded)),
            Err(Flaw::Lie(_))
        ));
        let said = decoded(Header::default());
        assert!(matches!(
            told(&said, vec![], &Ask::Inspect),
            Err(Flaw::Lie(_))
        ));
    }

    #[test]
    fn a_child_cannot_send_a_file_to_review_or_call_it_a_duplicate() {
        for reason in Reason::ALL {
            let answer = told(
                &Said::Fault(Fault::new(*reason, "x")),
                vec![],
                &Ask::Inspect,
            );
            let decoders = [
                "malformed",
                "cannot-decode",
                "no-pixel-data",
                "truncated",
                "non-dicom",
            ];
            let decoders = decoders.contains(&reason.code())
                || [
                    "decoder-crashed",
                    "decoder-memory",
                    "unsupported-transfer-syntax",
                ]
                .contains(&reason.code());
            assert_eq!(answer.is_ok(), decoders, "{reason}");
        }
    }

    #[test]
    fn a_hostile_uid_never_becomes_a_valid_one() {
        for uid in [
            "1.2\0.3".to_owned(),
            "1.2\u{200b}.3".into(),
            "1.2\n".into(),
            "1".repeat(65),
            "1".repeat(2000),
        ] {
            let header = header_after(Header {
                sop_instance_uid: uid.clone(),
                ..Header::default()
            });
            assert!(
                crate::domain::Uid::parse(&header.sop_instance_uid).is_err(),
                "{uid:?}"
            );
        }
        let header = header_after(Header {
            sop_instance_uid: "1.2.3\0".into(),
            ..Header::default()
        });
        assert_eq!(header.sop_instance_uid, "1.2.3");
    }

    #[test]
    fn a_study_date_is_eight_digits_or_nothing() {
        for (sent, kept) in [
            ("20260131", "20260131"),
            ("2026/1/1", ""),
            ("../../..", ""),
            ("２０２６", ""),
        ] {
            let description = Description {
                study_date: sent.into(),
                ..Description::default()
            };
            assert_eq!(
                header_after(Header {
                    description,
                    ..Header::default()
                })
                .description
                .study_date,
                kept
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_at_all_make_the_parent_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), valid in any::<bool>()) {
            let mut sent = if valid { MAGIC.to_vec() } else { vec![] };
            sent.extend_from_slice(&bytes);
            prop_assert!(read_answer(&mut sent.as_slice(), &Ask::Decode(vec![spec(2, 2)], Resolution::AsNeeded)).is_err());
        }

        #[test]
        fn a_changed_answer_is_refused_or_still_within_bounds(at in 0_usize..2000, to in any::<u8>()) {
            let mut bytes = Vec::new();
            let said = decoded(Header { patient_id: "P".into(), ..Header::default() });
            write_answer(&mut bytes, &said, &[Radiograph { height: 2, width: 2, pixels: vec![0.5; 4] }]).unwrap();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(Answer::Decoded { radiographs, .. }) = read_answer(&mut bytes.as_slice(), &Ask::Decode(vec![spec(2, 2)], Resolution::AsNeeded)) {
                // A header that no longer says radiograph comes with no tensor, and then the tensor is too much.
                prop_assert_eq!(radiographs.len(), 1);
                prop_assert!(radiographs.concat_pixels().iter().all(|v| (0.0..=1.0).contains(v)));
            }
        }

        #[test]
        fn header_texts_are_bounded_and_printable(text in "\\PC{0,50}|[\\x00-\\x7f]{0,3000}|.{0,300}") {
            let description = Description { manufacturer: text.clone(), patient_age: text.clone(), ..Description::default() };
            let header = header_after(Header { patient_id: text, description, ..Header::default() });
            for text in [&header.description.manufacturer, &header.description.patient_age] {
                prop_assert!(text.chars().count() <= 64);
                prop_assert!(!text.chars().any(char::is_control));
            }
            prop_assert!(!header.patient_id.chars().any(char::is_control));
        }
    }
}
