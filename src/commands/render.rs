//! `radsort render`: the picture exactly as the model gets it, before normalisation, as a PNG to look at.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::decode::{self, Content, Decoded, Intensity, Radiograph, RenderSpec, header, render};

/// Write the picture that the model gets as a PNG.
///
/// Without --size and --model the picture has the file's own size. Grey values are those after the modality and VOI
/// look-up tables, dense structures bright, before the bundle's normalisation.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when the PNG was written, 1 when the file cannot be decoded or is no radiograph."
)]
pub struct RenderArgs {
    /// The DICOM file.
    pub file: PathBuf,
    /// Where the PNG goes; an existing file is replaced.
    #[arg(long, value_name = "PNG")]
    pub out: PathBuf,
    /// Longest side in pixels; the aspect ratio is kept.
    #[arg(long, value_name = "N", conflicts_with = "model", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub size: Option<u32>,
    /// Exactly as this bundle's classifiers get it; several inputs become several files, numbered from the second on.
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// 16 bits a pixel instead of 8.
    #[arg(long = "16bit")]
    pub sixteen_bit: bool,
}

/// Runs the command.
pub fn run(args: &RenderArgs) -> anyhow::Result<ExitCode> {
    let file =
        File::open(&args.file).with_context(|| format!("cannot open {}", args.file.display()))?;
    let size = file
        .metadata()
        .with_context(|| format!("cannot stat {}", args.file.display()))?
        .len();
    let specs = match &args.model {
        Some(bundle) => bundle_specs(bundle)?,
        None => match header::inspect(&file, size).content {
            Content::Radiograph { header } => {
                let description = header.description;
                vec![render::picture_spec(
                    description.rows,
                    description.columns,
                    args.size,
                    Intensity::Voi,
                )]
            }
            Content::Damaged { fault, .. } => bail!("{}: {fault}", args.file.display()),
            _ => bail!("{} is not a radiograph", args.file.display()),
        },
    };
    let decoded = decode(&file, size, &specs)
        .with_context(|| format!("cannot decode {}", args.file.display()))?;
    if decoded.radiographs.is_empty() {
        bail!("{} is not a radiograph", args.file.display());
    }
    for (index, radiograph) in decoded.radiographs.iter().enumerate() {
        let out = numbered(&args.out, index);
        write_png(&out, radiograph, args.sixteen_bit)
            .with_context(|| format!("cannot write {}", out.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The one place where a file is decoded for this command.
fn decode(file: &File, size: u64, specs: &[RenderSpec]) -> anyhow::Result<Decoded> {
    Ok(decode::decode(file, size, specs)?)
}

fn bundle_specs(bundle: &Path) -> anyhow::Result<Vec<RenderSpec>> {
    bail!("{}: bundles cannot be read yet", bundle.display())
}

/// `picture.png`, `picture-2.png`, `picture-3.png`…
fn numbered(out: &Path, index: usize) -> PathBuf {
    if index == 0 {
        return out.to_owned();
    }
    let mut name = out.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{}", index + 1));
    out.with_file_name(name)
        .with_extension(out.extension().unwrap_or_default())
}

/// Writes a radiograph as a grey PNG of 8 or 16 bits.
pub fn write_png(out: &Path, radiograph: &Radiograph, sixteen_bit: bool) -> anyhow::Result<()> {
    let mut writer = BufWriter::new(File::create(out)?);
    writer.write_all(&png_bytes(radiograph, sixteen_bit)?)?;
    writer.flush()?;
    Ok(())
}

/// A radiograph as a grey PNG of 8 or 16 bits in memory.
pub fn png_bytes(radiograph: &Radiograph, sixteen_bit: bool) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, radiograph.width, radiograph.height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(if sixteen_bit {
        png::BitDepth::Sixteen
    } else {
        png::BitDepth::Eight
    });
    let samples: Vec<u8> = if sixteen_bit {
        radiograph
            .pixels
            .iter()
            .flat_map(|grey| ((grey * 65535.0).round() as u16).to_be_bytes())
            .collect()
    } else {
        radiograph
            .pixels
            .iter()
            .map(|grey| (grey * 255.0).round() as u8)
            .collect()
    };
    encoder.write_header()?.write_image_data(&samples)?;
    Ok(bytes)
}
