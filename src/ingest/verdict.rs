//! What a file is by its header and structure: enough to decide on all that is no readable radiograph.

use super::{Drop, Ending, Services};
use crate::config::settings::{Executables, Media, NonDicom, OtherDicom};
use crate::decode::{Completeness, Content, Decoded, Fault, Radiograph};
use crate::domain::instance::{Header, UidError};
use crate::domain::{Decision, Instance, Reason};
use crate::watch::Settled;

/// What a file is, as far as that can be told without the model.
pub(super) struct Verdict {
    pub(super) instance: Option<Instance>,
    /// `None`: ask the model.
    pub(super) decision: Option<Decision>,
    pub(super) detail: Option<String>,
    /// For the model.
    pub(super) radiographs: Vec<Radiograph>,
    /// They are made from fewer samples than the file has pixels.
    pub(super) reduced: bool,
}

pub(super) fn judge(
    drop: &Drop,
    settled: &Settled,
    decoded: Decoded,
    services: &Services,
) -> Result<Verdict, Ending> {
    let quarantine = |reason, detail: String, instance| Verdict {
        instance,
        decision: Some(Decision::Quarantine { reason }),
        detail: Some(detail),
        radiographs: Vec::new(),
        reduced: false,
    };
    let stays = |decision| Verdict {
        instance: None,
        decision: Some(decision),
        detail: None,
        radiographs: Vec::new(),
        reduced: false,
    };
    let instance_of = |header: &Header| {
        Instance::from_header(header, |patient, issuer| {
            services.secrets.pseudonym(patient, issuer)
        })
    };
    if let Completeness::ShortBy(missing) = decoded.inspection.completeness {
        if !settled.truncated {
            return Err(Ending::Changed);
        }
        let instance = match &decoded.inspection.content {
            Content::Radiograph { header }
            | Content::Other { header }
            | Content::Damaged { header, .. } => instance_of(header).ok(),
            _ => None,
        };
        return Ok(quarantine(
            Reason::Truncated,
            format!("{missing} bytes are missing at its end"),
            instance,
        ));
    }
    if settled.media && drop.settings.media == Media::Leave {
        return Ok(stays(Decision::Leave {
            reason: Reason::Media,
        }));
    }
    let taken = match &decoded.inspection.content {
        Content::Radiograph { header } => Some(header),
        Content::Other { header } if drop.settings.other == OtherDicom::Move => Some(header),
        _ => None,
    };
    if let Some(header) = taken
        && header.executable
        && drop.settings.executables == Executables::Quarantine
    {
        return Ok(quarantine(
            Reason::Executable,
            "its preamble is how programs or scripts begin".to_owned(),
            instance_of(header).ok(),
        ));
    }
    Ok(match decoded.inspection.content {
        Content::NotDicom => stays(match drop.settings.non_dicom {
            NonDicom::Leave => Decision::Leave {
                reason: Reason::NotDicom,
            },
            NonDicom::Quarantine => Decision::Quarantine {
                reason: Reason::NotDicom,
            },
        }),
        Content::Archive => stays(Decision::Leave {
            reason: Reason::Archive,
        }),
        Content::Dicomdir => stays(Decision::Leave {
            reason: Reason::Media,
        }),
        Content::Other { header } => match drop.settings.other {
            OtherDicom::Leave => Verdict {
                instance: instance_of(&header).ok(),
                ..stays(Decision::Leave {
                    reason: Reason::OtherModality,
                })
            },
            OtherDicom::Move => match instance_of(&header) {
                Ok(instance) => Verdict {
                    instance: Some(instance),
                    ..stays(Decision::Other {
                        reason: Reason::OtherModality,
                    })
                },
                Err(error) => quarantine(uid_reason(&error), error.to_string(), None),
            },
        },
        Content::Damaged {
            header,
            fault: Fault { reason, detail },
        } => quarantine(reason, detail, instance_of(&header).ok()),
        Content::Radiograph { header } => match instance_of(&header) {
            Ok(instance) => Verdict {
                instance: Some(instance),
                decision: None,
                detail: None,
                radiographs: decoded.radiographs,
                reduced: decoded.reduced,
            },
            Err(error) => quarantine(uid_reason(&error), error.to_string(), None),
        },
    })
}

fn uid_reason(error: &UidError) -> Reason {
    match error {
        UidError::Empty => Reason::NoSopInstanceUid,
        UidError::TooLong(_) | UidError::Malformed => Reason::InvalidSopInstanceUid,
    }
}
