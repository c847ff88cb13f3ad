//! What the phantoms promise.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

fn options(count: usize) -> PlanOptions {
    PlanOptions {
        count,
        seed: 7,
        imbalance: Imbalance::Even,
        difficulty: Difficulty::Normal,
        size: Some((100, 150)),
        outside: 0.1,
    }
}

#[test]
fn the_same_seed_gives_the_same_image_and_another_seed_another() {
    let again = plan(&options(6));
    for (a, b) in plan(&options(6)).iter().zip(&again) {
        let (a, b) = (a.draw(), b.draw());
        assert_eq!(a.pixels, b.pixels);
        assert_eq!(a.header, b.header);
    }
    let other = plan(&PlanOptions {
        seed: 8,
        ..options(6)
    });
    assert_ne!(other[0].draw().pixels, again[0].draw().pixels);
}
