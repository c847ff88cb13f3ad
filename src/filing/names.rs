//! The names that the filer gives: hidden ones while a file is under way, and others where a name is taken.

use crate::domain::placement::digest_name;
use crate::domain::{RelPath, placement::RelPathError};

use super::record::{Digest, RecordId};

pub use crate::root::HIDDEN;

/// The name of a copy that is being written, beside its target.
pub(super) fn part(target: &RelPath, id: &RecordId) -> Result<RelPath, RelPathError> {
    target.with_file_name(format!("{HIDDEN}{id}.part").as_bytes())
}

/// The name under which a source waits while it is copied, in its own directory.
pub(super) fn claim(source: &RelPath, id: &RecordId) -> Result<RelPath, RelPathError> {
    source.with_file_name(format!("{HIDDEN}{id}.claim").as_bytes())
}

/// The file that says why another is in the quarantine.
pub(super) fn reason(target: &RelPath) -> Result<RelPath, RelPathError> {
    let mut name = target.file_name().to_vec();
    name.extend_from_slice(b".reason.txt");
    target.with_file_name(&name)
}

/// Another name for a target whose name is taken: it carries the digest and the record's number, so that no other
/// record ever uses it.
pub(super) fn alternative(
    target: &RelPath,
    digest: &Digest,
    id: &RecordId,
) -> Result<RelPath, RelPathError> {
    let name = String::from_utf8_lossy(target.file_name()).into_owned();
    let (stem, extension) = split(&name);
    let stem = stem.split_once('~').map_or(stem, |(stem, _)| stem);
    target.with_file_name(
        digest_name(&format!("{stem}-{}", number(id)), &digest.0, extension).as_bytes(),
    )
}

/// The name of a file that goes back to a directory where its own name has been taken in the meantime.
pub(super) fn returned(source: &RelPath, id: &RecordId) -> Result<RelPath, RelPathError> {
    let name = source.file_name();
    let dot = name
        .iter()
        .rposition(|b| *b == b'.')
        .filter(|dot| *dot > 0 && name.len() - dot <= 8);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let mark = format!("~{}", number(id));
    let room = 255 - extension.len() - mark.len();
    let mut renamed = stem[..stem.len().min(room)].to_vec();
    renamed.extend_from_slice(mark.as_bytes());
    renamed.extend_from_slice(extension);
    source.with_file_name(&renamed)
}

fn number(id: &RecordId) -> &str {
    id.0.rsplit_once('-')
        .map_or(id.0.as_str(), |(_, number)| number)
}

fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= 8 => name.split_at(dot),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_stay_in_their_directory_and_tell_records_apart() {
        let path = |text: &str| RelPath::new(text).unwrap();
        let digest = Digest::from(blake3::hash(b"x"));
        let short = &digest.0[..16];
        let id = RecordId("00112233aabbccdd-17".into());
        assert_eq!(
            part(&path("a/b.dcm"), &id).unwrap(),
            path("a/.radsort-00112233aabbccdd-17.part")
        );
        assert_eq!(
            reason(&path("a/b.dcm")).unwrap(),
            path("a/b.dcm.reason.txt")
        );
        assert_eq!(
            alternative(&path("a/1.2.dcm"), &digest, &id).unwrap(),
            path(&format!("a/1.2-17~{short}.dcm"))
        );
        let taken = path(&format!("q/1.2~{short}.dcm"));
        assert_eq!(
            alternative(&taken, &digest, &id).unwrap(),
            path(&format!("q/1.2-17~{short}.dcm"))
        );
        assert_eq!(
            returned(&path("d/IM 1.dcm"), &id).unwrap(),
            path("d/IM 1~17.dcm")
        );
        assert_eq!(
            returned(&path(&"x".repeat(255)), &id)
                .unwrap()
                .file_name()
                .len(),
            255
        );
    }
}
