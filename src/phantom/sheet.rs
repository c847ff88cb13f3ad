//! A contact sheet: thumbnails by category on one picture, so that a person can look at a set at a glance.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use super::{CATEGORIES, PhantomError, Plan};

/// Width and height of a thumbnail, and the gap between two.
const THUMBNAIL: (usize, usize) = (200, 300);
const GAP: usize = 6;

/// Writes a PNG with one row a category (in the order of [`CATEGORIES`], then neither view) and up to `across` images each.
pub fn contact_sheet(path: &Path, plans: &[Plan], across: usize) -> Result<(), PhantomError> {
    let ids = CATEGORIES.iter().map(|c| Some(c.0)).chain([None]);
    let rows: Vec<Vec<&Plan>> = ids
        .map(|id| {
            plans
                .iter()
                .filter(|p| p.truth.category == id)
                .take(across)
                .collect()
        })
        .filter(|row: &Vec<&Plan>| !row.is_empty())
        .collect();
    let (cell_width, cell_height) = (THUMBNAIL.0 + GAP, THUMBNAIL.1 + GAP);
    let (width, height) = (
        across.max(1) * cell_width + GAP,
        rows.len().max(1) * cell_height + GAP,
    );
    let mut sheet = vec![40u8; width * height];
    for (row, plans) in rows.iter().enumerate() {
        for (column, plan) in plans.iter().enumerate() {
            // Drawn at twice the size and averaged, so that thin metal survives.
            let phantom = plan.draw_within(2 * THUMBNAIL.0 as u32, 2 * THUMBNAIL.1 as u32);
            let (w, h) = (phantom.columns as usize, phantom.rows as usize);
            let preview = phantom.preview();
            for y in 0..h / 2 {
                for x in 0..w / 2 {
                    let at =
                        |dx: usize, dy: usize| u16::from(preview[(2 * y + dy) * w + 2 * x + dx]);
                    let mean = (at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1)) / 4;
                    let (out_x, out_y) =
                        (GAP + column * cell_width + x, GAP + row * cell_height + y);
                    sheet[out_y * width + out_x] = mean as u8;
                }
            }
        }
    }
    write_png(path, width as u32, height as u32, &sheet)
}

/// Writes an 8-bit grey PNG.
fn write_png(path: &Path, width: u32, height: u32, pixels: &[u8]) -> Result<(), PhantomError> {
    let io = |source: std::io::Error| PhantomError::Io {
        path: path.to_owned(),
        source,
    };
    let mut encoder = png::Encoder::new(
        BufWriter::new(File::create(path).map_err(io)?),
        width,
        height,
    );
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|e| io(e.into()))?;
    writer.write_image_data(pixels).map_err(|e| io(e.into()))
}
