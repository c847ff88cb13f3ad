//! Mutated files never panic, never take long, and never give values outside 0 to 1.
//!
//! Codecs written in C are tried in a jail only (see the pool's tests); here stay the header pass, native pixels, RLE
//! and what is written in Rust.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::synthetic::{BIG_ENDIAN, Content as Value, DEFLATED, Dicom, EXPLICIT, IMPLICIT};
use crate::decode::header::inspect_bytes;
use crate::decode::{Content, Fit, Intensity, RenderSpec, decode_bytes, render};

fn seeds() -> Vec<Vec<u8>> {
    let cells: Vec<u16> = (0..16 * 12).map(|n| n * 21).collect();
    let item = vec![
        (0x0028_3002, "US", Value::Words(vec![4, 0, 16])),
        (0x0028_3006, "OW", Value::Words(vec![0, 100, 2000, 60000])),
    ];
    let native = Dicom::new(12, 16, 16, 12)
        .set(0x0028_3010, "SQ", Value::OpenItems(vec![item.clone()]))
        .set(0x0028_3000, "SQ", Value::Items(vec![item]))
        .words(0x0028_0120, &[0])
        .pixels16(&cells);
    let mut seeds: Vec<_> = [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED]
        .map(|syntax| native.clone().syntax(syntax).bytes())
        .into();
    let mut rle = vec![2, 0, 0, 0, 64, 0, 0, 0, 80, 0, 0, 0];
    rle.resize(64, 0);
    rle.extend([0x81, 1, 0xC1, 7].repeat(8));
    seeds.push(
        Dicom::new(4, 8, 16, 12)
            .fragments("1.2.840.10008.1.2.5", &[&rle[..70], &rle[70..]])
            .bytes(),
    );
    let colours = Dicom::new(4, 4, 8, 8)
        .words(0x0028_0002, &[3])
        .words(0x0028_0006, &[0]);
    seeds.push(
        colours
            .text(0x0028_0004, "CS", "YBR_FULL_422")
            .pixels8(&[9; 48])
            .bytes(),
    );
    seeds
}

fn survives(bytes: &[u8]) {
    let begun = Instant::now();
    let inspection = inspect_bytes(bytes);
    // The C codecs that a mutation of the transfer syntax can reach are fine too, but not the subject.
    let spec = RenderSpec {
        fit: Fit::Letterbox,
        ..render::picture_spec(16, 16, None, Intensity::Percentile { lo: 1.0, hi: 99.0 })
    };
    let voi = RenderSpec {
        intensity: Intensity::Voi,
        fit: Fit::Crop,
        ..spec.clone()
    };
    if let Content::Radiograph { .. } = inspection.content
        && let Ok(decoded) = decode_bytes(bytes, &[spec, voi])
    {
        for grey in decoded
            .radiographs
            .iter()
            .flat_map(|radiograph| &radiograph.pixels)
        {
            assert!((0.0..=1.0).contains(grey), "{grey}");
        }
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "took {:?}",
        begun.elapsed()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn mutated_files_are_harmless(
        seed in 0..6_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let mut bytes = seeds().swap_remove(seed);
        for (index, value) in changes {
            // Mostly behind the preamble.
            let at = 128 + index.index(bytes.len() - 128);
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes);
    }

    #[test]
    fn random_bytes_behind_a_magic_word_are_harmless(body in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM");
        bytes.extend(body);
        survives(&bytes);
    }
}
