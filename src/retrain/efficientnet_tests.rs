use super::*;

#[test]
fn parameter_counts_are_the_published_ones() {
    const PUBLISHED: [i64; 8] = [
        5_288_548, 7_794_184, 9_109_994, 12_233_232, 19_341_616, 30_389_784, 43_040_704, 66_347_960,
    ];
    for (variant, published) in VARIANTS.iter().zip(PUBLISHED) {
        // Without random numbers: drawing 66 million would take longer than everything else.
        let size = [3, variant.resolution, variant.resolution];
        let model = variant.fill(Builder::blank(), size, 1000);
        let learned = |name: &str| {
            !name.ends_with("running_mean")
                && !name.ends_with("running_var")
                && name != "dropout.ratio"
        };
        let count: i64 = model
            .graph
            .iter()
            .flat_map(|graph| &graph.initializer)
            .filter(|tensor| learned(&tensor.name))
            .map(|tensor| tensor.dims.iter().product::<i64>())
            .sum();
        assert_eq!(count, published, "{variant:?}");
    }
}

#[test]
fn channels_are_multiples_of_eight_near_what_was_asked_for() {
    let b6 = VARIANTS[6];
    assert_eq!((b6.width, b6.depth, b6.resolution), (1.8, 2.6, 528));
    assert_eq!(
        (b6.channels(32), b6.repeats(4), b6.features()),
        (56, 11, 2304)
    );
    for width in [0.1, 0.35, 1.0, 1.4, 2.0] {
        let variant = Variant { width, ..b6 };
        for channels in 8..200 {
            let rounded = variant.channels(channels);
            assert!(rounded.is_multiple_of(8) && rounded as f64 >= 0.9 * width * channels as f64);
        }
    }
}

#[test]
fn variants_are_found_by_name() {
    assert_eq!(Variant::named("efficientnet-b6"), Some(VARIANTS[6]));
    assert_eq!(Variant::named("b0"), Some(VARIANTS[0]));
    assert_eq!(Variant::named("efficientnet-b8"), None);
    assert_eq!(Variant::named("resnet"), None);
}
