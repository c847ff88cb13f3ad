//! Mutations of files, by seed: bytes, lengths, structure. Used by the mutants and by the stable run of the fuzz targets.

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// Numbers that programs get wrong.
const SPECIAL: [u32; 14] = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0xFFFE,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFE_E00D,
    0xFFFE_E0DD,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
];

/// What makes DICOM's structure; put anywhere, it makes another.
const PIECES: [&[u8]; 9] = [
    b"\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF",
    b"\xFE\xFF\x00\xE0\x00\x00\x00\x00",
    b"\xFE\xFF\x0D\xE0\x00\x00\x00\x00",
    b"\xFE\xFF\xDD\xE0\x00\x00\x00\x00",
    b"\x08\x00\x15\x11SQ\0\0\xFF\xFF\xFF\xFF",
    b"\x09\x00\x15\x11UN\0\0\xFF\xFF\xFF\xFF",
    b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF",
    b"\x28\x00\x10\x00US\x02\x00\xFF\xFF",
    b"\x28\x00\x08\x00IS\x04\x009999",
];

/// The random numbers of the n-th mutant.
pub fn dice(seed: u64, n: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(n);
    rng
}

/// Changes these bytes in one to four ways; those before `from` seldom.
pub fn mutate(bytes: &mut Vec<u8>, from: usize, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            return;
        }
        let low = if rng.random_ratio(1, 20) {
            0
        } else {
            from.min(bytes.len() - 1)
        };
        let at = rng.random_range(low..bytes.len());
        let rest = bytes.len() - at;
        match rng.random_range(0..18) {
            0 | 1 | 12..18 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => bytes[at] = rng.random(),
            3 | 4 => {
                // A length, a number or a tag, of two or four bytes in either order.
                let number = *SPECIAL.choose(rng).unwrap_or(&0);
                let four = if rng.random() {
                    number.to_le_bytes()
                } else {
                    number.to_be_bytes()
                };
                let width = if rng.random() { 2 } else { 4 }.min(rest);
                bytes[at..at + width].copy_from_slice(&four[..width]);
            }
            5 => bytes.truncate(at),
            6 => {
                let piece = bytes[at..at + rest.min(rng.random_range(1..200))].to_vec();
                let to = rng.random_range(low..=bytes.len());
                bytes.splice(to..to, piece);
            }
            7 => {
                bytes.drain(at..at + rest.min(rng.random_range(1..60)));
            }
            8 => {
                let piece = *PIECES.choose(rng).unwrap_or(&PIECES[0]);
                bytes.splice(at..at, piece.repeat(rng.random_range(1..20)));
            }
            9 => bytes.extend((0..rng.random_range(1..300)).map(|_| rng.random::<u8>())),
            10 => {
                let end = at + rest.min(rng.random_range(1..100));
                let with = if rng.random() { 0 } else { 0xFF };
                bytes[at..end].fill(with);
            }
            _ => {
                let other = rng.random_range(low..bytes.len());
                bytes.swap(at, other);
            }
        }
    }
}
