//! From stored values to grey values: masks, signs, look-up tables, windows, padding, polarity, fitting.

use super::synthetic::{Content as Value, Dicom, IMPLICIT};
use super::{decoded, difference, picture};
use crate::decode::attributes::{Function, PixelDescription, Voi};
use crate::decode::render::{picture_spec, render_plane};
use crate::decode::{Fit, Intensity, Polarity, RenderSpec, decode_bytes};

/// One row of pixels at their own size.
fn row(dicom: &Dicom) -> Vec<f32> {
    picture(&dicom.bytes(), None).unwrap().pixels
}

fn one_row(bits_allocated: u16, bits_stored: u16, cells: &[u16]) -> Dicom {
    Dicom::new(1, cells.len() as u16, bits_allocated, bits_stored).pixels16(cells)
}

fn window(dicom: Dicom, center: &str, width: &str, function: &str) -> Dicom {
    dicom
        .text(0x0028_1050, "DS", center)
        .text(0x0028_1051, "DS", width)
        .text(0x0028_1056, "CS", function)
}

fn close(actual: &[f32], expected: &[f32]) {
    let (_, most) = difference(actual, expected);
    assert!(most < 1e-5, "{actual:?} is not {expected:?}");
}

fn spec(height: u32, width: u32, fit: Fit) -> RenderSpec {
    RenderSpec {
        fit,
        ..picture_spec(height, width, None, Intensity::Voi)
    }
}

#[test]
fn without_a_window_the_whole_range_is_shown() {
    close(&row(&one_row(16, 12, &[100, 200, 300])), &[0.0, 0.5, 1.0]);
    close(&row(&one_row(16, 12, &[100, 100, 100])), &[0.0, 0.0, 0.0]);
}

#[test]
fn bits_beyond_bits_stored_are_ignored() {
    let clean = row(&one_row(16, 10, &[0, 100, 1000]));
    close(
        &row(&one_row(16, 10, &[0xFC00, 0x5400 | 0x64, 0x8000 | 0x3E8])),
        &clean,
    );
    let twelve = row(&one_row(16, 12, &[0, 100, 1000]));
    close(
        &row(&one_row(16, 12, &[0xF000, 0x3000 | 0x64, 0x9000 | 0x3E8])),
        &twelve,
    );
    // High Bit 15: the twelve bits lie at the top.
    let high = one_row(16, 12, &[0x000F, 100 << 4 | 3, 1000 << 4 | 9]).words(0x0028_0102, &[15]);
    close(&row(&high), &twelve);
}

#[test]
fn signed_values_are_extended_from_bits_stored() {
    // −512, 0 and 511 in ten bits, with and without garbage above.
    let cells = [0x200, 0, 0x1FF];
    let expected = [0.0, 512.0 / 1023.0, 1.0];
    close(
        &row(&one_row(16, 10, &cells).words(0x0028_0103, &[1])),
        &expected,
    );
    close(
        &row(&one_row(16, 10, &cells.map(|cell| cell | 0xA800)).words(0x0028_0103, &[1])),
        &expected,
    );
}

#[test]
fn the_three_window_functions_follow_the_standard() {
    // PS3.3 §C.11.2.1.2: center 2048, width 4096 shows 0 as the least and 4095 as the greatest.
    let ramp = one_row(16, 12, &[0, 1024, 2048, 4095]);
    close(
        &row(&window(ramp.clone(), "2048", "4096", "LINEAR")),
        &[0.0, 1024.0 / 4095.0, 2048.0 / 4095.0, 1.0],
    );
    close(
        &row(&window(ramp.clone(), "2048", "4096", "LINEAR_EXACT")),
        &[0.0, 0.25, 0.5, 4095.0 / 4096.0],
    );
    let sigmoid = |x: f32| 1.0 / (1.0 + (-4.0 * (x - 2048.0) / 1000.0).exp());
    close(
        &row(&window(ramp.clone(), "2048", "1000", "SIGMOID")),
        &[0.0, 1024.0, 2048.0, 4095.0].map(sigmoid),
    );
    close(
        &row(&window(ramp.clone(), "1024", "1", "LINEAR")),
        &[0.0, 1.0, 1.0, 1.0],
    );
    close(
        &row(&window(ramp, "2048\\1", "4096\\2", "")),
        &[0.0, 1024.0 / 4095.0, 2048.0 / 4095.0, 1.0],
    );
}

#[test]
fn unusable_windows_are_none() {
    let ramp = one_row(16, 12, &[0, 500, 1000]);
    for (center, width) in [
        ("500", "0"),
        ("500", "-3"),
        ("x", "100"),
        ("nan", "100"),
        ("500", "inf"),
        ("", ""),
    ] {
        close(
            &row(&window(ramp.clone(), center, width, "LINEAR")),
            &[0.0, 0.5, 1.0],
        );
    }
}

#[test]
fn rescale_comes_before_the_window_and_inversion_last() {
    let cells = [0, 1000, 2000];
    let dicom =
        one_row(16, 12, &cells)
            .text(0x0028_1053, "DS", "2")
            .text(0x0028_1052, "DS", "-1000");
    // Values −1000, 1000, 3000 in a window from 0 to 2000.
    let shown = window(dicom, "1000", "2000", "LINEAR_EXACT");
    close(&row(&shown), &[0.0, 0.5, 1.0]);
    close(
        &row(&shown.clone().text(0x0028_0004, "CS", "MONOCHROME1")),
        &[1.0, 0.5, 0.0],
    );
    close(
        &row(&shown.clone().text(0x2050_0020, "CS", "INVERSE")),
        &[1.0, 0.5, 0.0],
    );
    // As Digital X-Ray writes it: both say the same thing, once.
    let both = shown
        .text(0x0028_0004, "CS", "MONOCHROME1")
        .text(0x2050_0020, "CS", "INVERSE");
    close(&row(&both), &[1.0, 0.5, 0.0]);
    let as_stored = RenderSpec {
        polarity: Polarity::AsStored,
        ..spec(1, 3, Fit::Squash)
    };
    close(
        &decode_bytes(&both.bytes(), &[as_stored])
            .unwrap()
            .radiographs[0]
            .pixels,
        &[0.0, 0.5, 1.0],
    );
}

fn lut(sequence: u32, first: u16, bits: u16, entries: &[u16]) -> impl Fn(Dicom) -> Dicom {
    let items = vec![vec![
        (
            0x0028_3002,
            "US",
            Value::Words(vec![entries.len() as u16, first, bits]),
        ),
        (0x0028_3006, "OW", Value::Words(entries.to_vec())),
    ]];
    move |dicom| dicom.set(sequence, "SQ", Value::OpenItems(items.clone()))
}

#[test]
fn look_up_tables_win_over_windows_and_rescale_and_clamp_at_their_ends() {
    let cells = [0, 10, 11, 12, 13, 4000];
    let voi = lut(0x0028_3010, 10, 8, &[0, 51, 102, 255]);
    let dicom = window(voi(one_row(16, 12, &cells)), "5", "2", "LINEAR");
    close(&row(&dicom), &[0.0, 0.0, 0.2, 0.4, 1.0, 1.0]);
    close(
        &row(&dicom.syntax(IMPLICIT)),
        &[0.0, 0.0, 0.2, 0.4, 1.0, 1.0],
    );
    let modality = lut(0x0028_3000, 10, 16, &[1000, 2000, 4000, 5000]);
    let dicom = modality(one_row(16, 12, &cells))
        .text(0x0028_1053, "DS", "7")
        .text(0x0028_1052, "DS", "3");
    close(&row(&dicom), &[0.0, 0.0, 0.25, 0.75, 1.0, 1.0]);
    let empty = lut(0x0028_3010, 0, 16, &[]);
    close(&row(&empty(one_row(16, 12, &[0, 1, 2]))), &[0.0, 0.5, 1.0]);
}

#[test]
fn a_voi_table_can_begin_below_zero() {
    // Signed, because a rescale makes its inputs so (PS3.3 §C.11.2.1.1).
    let item = vec![
        (0x0028_3002, "SS", Value::Words(vec![6, (-5_i16) as u16, 8])),
        (
            0x0028_3006,
            "OW",
            Value::Words(vec![0, 51, 102, 153, 204, 255]),
        ),
    ];
    let rescaled = one_row(16, 12, &[0, 2, 5])
        .text(0x0028_1053, "DS", "1")
        .text(0x0028_1052, "DS", "-5");
    let dicom = rescaled.set(0x0028_3010, "SQ", Value::Items(vec![item]));
    close(&row(&dicom), &[0.0, 0.4, 1.0]);
    close(&row(&dicom.syntax(IMPLICIT)), &[0.0, 0.4, 1.0]);
}

/// Six entries from `first` on, by value representation of their descriptor.
fn ramp(sequence: u32, vr: &'static str, first: u16) -> impl Fn(Dicom) -> Dicom {
    let item = vec![
        (0x0028_3002, vr, Value::Words(vec![6, first, 8])),
        (
            0x0028_3006,
            "OW",
            Value::Words(vec![0, 51, 102, 153, 204, 255]),
        ),
    ];
    move |dicom| dicom.set(sequence, "SQ", Value::Items(vec![item.clone()]))
}

#[test]
fn whether_a_table_begins_below_zero_is_told_by_what_it_is_given() {
    let rescaled = |dicom: Dicom, slope: &str, intercept: &str| {
        dicom
            .text(0x0028_1053, "DS", slope)
            .text(0x0028_1052, "DS", intercept)
    };
    let both = |dicom: &Dicom, expected: &[f32]| {
        close(&row(dicom), expected);
        close(&row(&dicom.clone().syntax(IMPLICIT)), expected);
    };
    // A falling slope makes unsigned values negative, whatever the intercept.
    let below = ramp(0x0028_3010, "SS", (-5_i16) as u16);
    let falling = rescaled(one_row(16, 12, &[1000, 1003, 1005]), "-1", "1000");
    both(&below(falling), &[1.0, 0.4, 0.0]);
    // An intercept makes signed values positive: 40000 is 40000.
    let above = ramp(0x0028_3010, "US", 40_000);
    let signed = one_row(16, 16, &[7232, 7234, 7237]).words(0x0028_0103, &[1]);
    both(&above(rescaled(signed, "1", "32768")), &[0.0, 0.4, 1.0]);
    // No signed value is 63488, which some devices write for -2048.
    let cells = [-2048, -2046, -2043].map(|value: i16| value as u16);
    let signed = one_row(16, 12, &cells).words(0x0028_0103, &[1]);
    both(
        &ramp(0x0028_3010, "US", 63_488)(signed.clone()),
        &[0.0, 0.4, 1.0],
    );
    both(&ramp(0x0028_3000, "US", 63_488)(signed), &[0.0, 0.4, 1.0]);
    // An unsigned one may be.
    let unsigned = one_row(16, 16, &[63_488, 63_490, 63_493]);
    both(&ramp(0x0028_3010, "US", 63_488)(unsigned), &[0.0, 0.4, 1.0]);
}

#[test]
fn a_picture_of_a_very_long_image_is_made_smaller_unasked() {
    let spec = picture_spec(30_000, 3, None, Intensity::Voi);
    assert_eq!((spec.height, spec.width), (20_000, 2));
    let spec = picture_spec(3000, 2000, None, Intensity::Voi);
    assert_eq!((spec.height, spec.width), (3000, 2000));
}

#[test]
fn padding_is_left_out_of_averages_and_ranges() {
    let dicom = one_row(16, 12, &[0, 0, 100, 200, 0, 300]).words(0x0028_0120, &[0]);
    let spec = RenderSpec {
        pad: 0.125,
        ..spec(1, 3, Fit::Squash)
    };
    // Pairs: only padding; 100 and 200; 300 alone. The range is 150 to 300.
    close(
        &decode_bytes(&dicom.bytes(), std::slice::from_ref(&spec))
            .unwrap()
            .radiographs[0]
            .pixels,
        &[0.125, 0.0, 1.0],
    );
    let ranged = one_row(16, 12, &[0, 5, 100, 200, 3, 300])
        .words(0x0028_0120, &[0])
        .words(0x0028_0121, &[9]);
    close(
        &decode_bytes(&ranged.bytes(), std::slice::from_ref(&spec))
            .unwrap()
            .radiographs[0]
            .pixels,
        &[0.125, 0.0, 1.0],
    );
    // −2000 does not fit into twelve bits: it fills the whole cell.
    let outside = (-2000_i16) as u16;
    for vr in ["SS", "US"] {
        let signed = one_row(16, 12, &[outside, outside, 100, 200, outside, 300])
            .words(0x0028_0103, &[1])
            .set(0x0028_0120, vr, Value::Words(vec![outside]));
        let spec = std::slice::from_ref(&spec);
        close(
            &decode_bytes(&signed.bytes(), spec).unwrap().radiographs[0].pixels,
            &[0.125, 0.0, 1.0],
        );
    }
}

#[test]
fn a_decimal_comma_is_one() {
    let scaled = |slope: &str, width: &str| {
        let dicom = one_row(16, 12, &[0, 10, 20]).text(0x0028_1053, "DS", slope);
        row(&window(
            dicom.text(0x0028_1052, "DS", "-1"),
            "5.5",
            width,
            "LINEAR",
        ))
    };
    close(&scaled("0,5", "7,5"), &scaled("0.5", "7.5"));
    // Perhaps a thousand: no window at all, as if it were not there.
    close(&scaled("0.5", "1,024"), &scaled("0.5", "wide"));
}

#[test]
fn colours_and_palettes_become_luminance() {
    let luminance = |r: f32, g: f32, b: f32| (0.299 * r + 0.587 * g + 0.114 * b) / 255.0;
    let expected = [
        luminance(255.0, 0.0, 0.0),
        luminance(0.0, 255.0, 0.0),
        luminance(10.0, 20.0, 30.0),
        1.0,
    ];
    let colours = |photometric| {
        Dicom::new(1, 4, 8, 8)
            .words(0x0028_0002, &[3])
            .text(0x0028_0004, "CS", photometric)
    };
    let near = |actual: Vec<f32>| {
        let (_, most) = difference(&actual, &expected);
        assert!(most < 0.002, "{actual:?}");
    };
    let rgb = [255, 0, 0, 0, 255, 0, 10, 20, 30, 255, 255, 255];
    near(row(&colours("RGB").words(0x0028_0006, &[0]).pixels8(&rgb)));
    let planes = [255, 0, 10, 255, 0, 255, 20, 255, 0, 0, 30, 255];
    near(row(&colours("RGB")
        .words(0x0028_0006, &[1])
        .pixels8(&planes)));
    let y: Vec<u8> = expected
        .iter()
        .map(|grey| (grey * 255.0).round() as u8)
        .collect();
    let ybr = [y[0], 1, 2, y[1], 3, 4, y[2], 5, 6, y[3], 7, 8];
    near(row(&colours("YBR_FULL")
        .words(0x0028_0006, &[0])
        .pixels8(&ybr)));
    near(row(&colours("YBR_FULL_422")
        .words(0x0028_0006, &[0])
        .pixels8(&[y[0], y[1], 1, 2, y[2], y[3], 3, 4])));

    let table = |values: [u16; 4]| Value::Words(values.map(|v| v << 8 | v).to_vec());
    let mut palette = Dicom::new(1, 4, 8, 8)
        .text(0x0028_0004, "CS", "PALETTE COLOR")
        .pixels8(&[0, 1, 2, 3]);
    for (n, values) in [[255, 0, 10, 255], [0, 255, 20, 255], [0, 0, 30, 255]]
        .into_iter()
        .enumerate()
    {
        let n = n as u32;
        palette =
            palette
                .words(0x0028_1101 + n, &[4, 0, 16])
                .set(0x0028_1201 + n, "OW", table(values));
    }
    near(row(&palette));
    // What is meant for grey values, left by whoever painted them, is not meant for colours.
    for left in [
        window(palette.clone(), "128", "256", "LINEAR"),
        window(palette.clone(), "2048", "4096", "SIGMOID"),
        lut(0x0028_3010, 0, 8, &[255, 51, 102, 0])(palette.clone()),
        lut(0x0028_3000, 0, 8, &[255, 51, 102, 0])(palette.clone()),
        palette.clone().text(0x0028_1053, "DS", "7"),
        palette.clone().words(0x0028_0120, &[3]),
        palette.clone().text(0x2050_0020, "CS", "INVERSE"),
    ] {
        near(row(&left));
    }
}

#[test]
fn letterbox_squash_and_crop_put_things_where_they_belong() {
    // Left half 0, right half 1000; twice as wide as high.
    let cells: Vec<u16> = (0..8 * 16)
        .map(|n| if n % 16 < 8 { 0 } else { 1000 })
        .collect();
    let bytes = Dicom::new(8, 16, 16, 12).pixels16(&cells).bytes();
    let render = |fit| {
        let spec = RenderSpec {
            pad: 0.25,
            ..spec(4, 4, fit)
        };
        decode_bytes(&bytes, &[spec])
            .unwrap()
            .radiographs
            .remove(0)
            .pixels
    };
    let line = [0.0, 0.0, 1.0, 1.0];
    close(
        &render(Fit::Letterbox),
        &[[0.25; 4], line, line, [0.25; 4]].concat(),
    );
    close(&render(Fit::Squash), &[line; 4].concat());
    close(&render(Fit::Crop), &[line; 4].concat());
}

#[test]
fn pixels_that_are_not_square_become_so_unless_the_picture_is_squashed() {
    let cells: Vec<u16> = (0..40 * 40).map(|n| n * 2).collect();
    let twice: Vec<u16> = cells
        .chunks(40)
        .flat_map(|row| [row, row].concat())
        .collect();
    let tall = |tag: u32, ratio: &str| {
        let vr = if tag == 0x0028_0034 { "IS" } else { "DS" };
        Dicom::new(40, 40, 16, 12)
            .pixels16(&cells)
            .text(tag, vr, ratio)
    };
    let square = Dicom::new(80, 40, 16, 12).pixels16(&twice).bytes();
    let render = |bytes: &[u8], fit| {
        let spec = spec(40, 40, fit);
        decode_bytes(bytes, &[spec])
            .unwrap()
            .radiographs
            .remove(0)
            .pixels
    };
    for fit in [Fit::Letterbox, Fit::Crop, Fit::Squash] {
        let wanted = render(&square, fit);
        // Pixel Spacing, Imager Pixel Spacing, Pixel Aspect Ratio.
        for (tag, ratio) in [
            (0x0028_0030, "0.2\\0.1"),
            (0x0018_1164, "0.3\\0.15"),
            (0x0028_0034, "2\\1"),
        ] {
            close(&render(&tall(tag, ratio).bytes(), fit), &wanted);
        }
    }
    let plain = render(
        &Dicom::new(40, 40, 16, 12).pixels16(&cells).bytes(),
        Fit::Letterbox,
    );
    for senseless in ["0.1001\\0.1", "0\\0.1", "20\\0.1", "0.2"] {
        close(
            &render(&tall(0x0028_0030, senseless).bytes(), Fit::Letterbox),
            &plain,
        );
    }
}

#[test]
fn an_area_average_is_the_mean_of_what_a_pixel_covers() {
    // Three columns become two: each covers one and a half.
    let spec = spec(1, 2, Fit::Squash);
    let bytes = window(
        one_row(16, 12, &[0, 300, 900]),
        "450",
        "900",
        "LINEAR_EXACT",
    )
    .bytes();
    let pixels = &decode_bytes(&bytes, &[spec]).unwrap().radiographs[0].pixels;
    close(
        pixels,
        &[150.0 / 1.5 / 900.0, (150.0 + 900.0) / 1.5 / 900.0],
    );
}

#[test]
fn a_window_clips_before_averaging() {
    let bytes = window(one_row(16, 12, &[0, 4000]), "500", "1000", "LINEAR_EXACT").bytes();
    close(
        &decode_bytes(&bytes, &[spec(1, 1, Fit::Squash)])
            .unwrap()
            .radiographs[0]
            .pixels,
        &[0.5],
    );
}

#[test]
fn a_saturated_image_stays_within_0_and_1_at_every_size() {
    for (rows, columns) in [(250, 300), (176, 214), (430, 299), (97, 131)] {
        let mut white = PixelDescription::monochrome2(rows, columns, 12);
        white.voi = Voi::Window {
            center: 100.0,
            width: 50.0,
            function: Function::Linear,
        };
        let stored = vec![4000; rows as usize * columns as usize];
        for side in 20..90 {
            let spec = RenderSpec {
                pad: 1.0,
                ..spec(side, side, Fit::Letterbox)
            };
            let picture = render_plane(&stored, &white, &spec).unwrap();
            // The jail's parent takes anything beyond for a lie.
            assert!(
                picture.pixels.iter().all(|grey| (0.0..=1.0).contains(grey)),
                "{rows} x {columns} at {side}"
            );
        }
    }
}

#[test]
fn percentiles_leave_out_collimation() {
    // A ramp from 1000 to 1990 within a black border of a third on each side.
    let side = 60;
    let inside = |n: usize| (20..40).contains(&n);
    let cell = |x: usize, y: usize| {
        if inside(x) && inside(y) {
            1000 + ((x - 20) * 20 + (y - 20)) as u16
        } else {
            0
        }
    };
    let cells: Vec<u16> = (0..side * side).map(|n| cell(n % side, n / side)).collect();
    let bytes = Dicom::new(60, 60, 16, 12).pixels16(&cells).bytes();
    let percentile = Intensity::Percentile { lo: 0.0, hi: 100.0 };
    let pixels = &decoded(&bytes, None, percentile).unwrap().radiographs[0].pixels;
    close(
        &[pixels[20 * 60 + 20], pixels[39 * 60 + 39], pixels[0]],
        &[0.0, 1.0, 0.0],
    );
    assert!(pixels[30 * 60 + 30] > 0.4 && pixels[30 * 60 + 30] < 0.6);
    let median = decoded(&bytes, None, Intensity::Percentile { lo: 0.0, hi: 50.0 }).unwrap();
    close(&[median.radiographs[0].pixels[39 * 60 + 20 + 10]], &[1.0]);
}

#[test]
fn several_specs_are_served_by_one_pass() {
    let cells: Vec<u16> = (0..30 * 40).map(|n| n * 3).collect();
    let bytes = Dicom::new(30, 40, 16, 12).pixels16(&cells).bytes();
    let percentile = RenderSpec {
        intensity: Intensity::Percentile { lo: 1.0, hi: 99.0 },
        ..spec(9, 12, Fit::Crop)
    };
    let specs = [
        spec(15, 20, Fit::Squash),
        percentile,
        spec(16, 16, Fit::Letterbox),
    ];
    let together = decode_bytes(&bytes, &specs).unwrap().radiographs;
    for (index, spec) in specs.iter().enumerate() {
        let alone = decode_bytes(&bytes, std::slice::from_ref(spec))
            .unwrap()
            .radiographs
            .remove(0);
        assert_eq!(alone.pixels, together[index].pixels, "spec {index}");
        assert_eq!((alone.height, alone.width), (spec.height, spec.width));
    }
}

#[test]
fn pixels_in_memory_take_the_same_way_as_a_file() {
    let cells: Vec<u16> = (0..30 * 40).map(|n| n * 3).collect();
    let bytes = Dicom::new(30, 40, 16, 12).pixels16(&cells).bytes();
    let spec = RenderSpec {
        pad: 0.1,
        ..spec(16, 16, Fit::Letterbox)
    };
    let file = decode_bytes(&bytes, std::slice::from_ref(&spec))
        .unwrap()
        .radiographs
        .remove(0);
    let memory = render_plane(&cells, &PixelDescription::monochrome2(30, 40, 12), &spec).unwrap();
    assert_eq!(file, memory);
    assert!(
        render_plane(
            &cells[1..],
            &PixelDescription::monochrome2(30, 40, 12),
            &spec
        )
        .is_err()
    );
}

/// Pins rendering to the last of three decimals. If this changes, raise `PREPROCESSING_VERSION`: models must be
/// trained with what they will be given.
#[test]
fn rendering_is_pinned() {
    let cells: Vec<u16> = (0..97 * 61_u32)
        .map(|n| (n * 7919 % 3001 + n / 61 * 9) as u16)
        .collect();
    let dicom = window(
        Dicom::new(97, 61, 16, 12).pixels16(&cells),
        "1900",
        "2600",
        "LINEAR",
    )
    .text(0x0028_0004, "CS", "MONOCHROME1")
    .words(0x0028_0120, &[7]);
    let percentile = RenderSpec {
        intensity: Intensity::Percentile { lo: 1.0, hi: 99.0 },
        ..spec(24, 16, Fit::Squash)
    };
    let specs = [
        RenderSpec {
            pad: 0.5,
            ..spec(32, 32, Fit::Letterbox)
        },
        percentile,
        spec(20, 20, Fit::Crop),
    ];
    let mut hasher = blake3::Hasher::new();
    for radiograph in decode_bytes(&dicom.bytes(), &specs).unwrap().radiographs {
        for grey in radiograph.pixels {
            hasher.update(&((grey * 1000.0).round() as i32).to_le_bytes());
        }
    }
    assert_eq!(
        &hasher.finalize().to_hex()[..16],
        "19a692fca2347c4b",
        "see the comment above this test"
    );
    assert_eq!(crate::decode::PREPROCESSING_VERSION, 1);
}
