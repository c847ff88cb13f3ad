//! `radsort render`: the picture exactly as the model gets it, before normalisation, as a PNG to look at.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use super::query::{self, write_json};
use crate::config::settings::DecoderSettings;
use crate::decode::pool::Pool;
use crate::decode::{Content, Intensity, Radiograph, render};
use crate::model::Bundle;

/// Write the picture that the model gets as a PNG.
///
/// Without --size and --model the picture has the file's own size, up to 20,000 pixels a side. Grey values are those after the modality and VOI
/// look-up tables, dense structures bright, before the bundle's normalisation.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort render image.dcm --out image.png
  radsort render image.dcm --out small.png --size 512

Exit status: 0 when the PNG was written, 1 when the file cannot be decoded or is no radiograph.")]
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
    /// Say as one JSON object a picture what was written.
    #[arg(long)]
    pub json: bool,
}

/// A picture as `--json` tells of it: the fields are what scripts rely on.
#[derive(Debug, serde::Serialize)]
struct Written<'a> {
    path: &'a Path,
    /// Pixels.
    width: u32,
    /// Pixels.
    height: u32,
    bits: u8,
}

/// Runs the command. The file is decoded in the jail, as the daemon does it.
pub fn run(args: &RenderArgs) -> anyhow::Result<ExitCode> {
    let shown = args.file.display();
    let file = File::open(&args.file).with_context(|| format!("cannot open {shown}"))?;
    let size = file
        .metadata()
        .with_context(|| format!("cannot stat {shown}"))?
        .len();
    let pool = Pool::start(&limits())?;
    let specs = match &args.model {
        Some(bundle) => Bundle::open(bundle)?.render_specs().to_vec(),
        None => match pool
            .inspect(&file, size)
            .with_context(|| format!("cannot read {shown}"))?
            .content
        {
            Content::Radiograph { header } => {
                let description = header.description;
                vec![render::picture_spec(
                    description.rows,
                    description.columns,
                    args.size,
                    Intensity::Voi,
                )]
            }
            Content::Damaged { fault, .. } => bail!("cannot decode {shown}: {fault}"),
            _ => bail!("{shown} is not a radiograph"),
        },
    };
    let decoded = pool
        .decode(&file, size, &specs)
        .with_context(|| format!("cannot decode {shown}"))?;
    if decoded.radiographs.is_empty() {
        bail!("{shown} is not a radiograph");
    }
    for (index, radiograph) in decoded.radiographs.iter().enumerate() {
        let out = numbered(&args.out, index);
        write_png(&out, radiograph, args.sixteen_bit)
            .with_context(|| format!("cannot write {}", out.display()))?;
        if args.json {
            let written = Written {
                path: &out,
                width: radiograph.width,
                height: radiograph.height,
                bits: if args.sixteen_bit { 16 } else { 8 },
            };
            query::ignore_closed_pipe(write_json(&mut io::stdout(), &written))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The defaults of `[runtime] decoders`, for one file.
fn limits() -> DecoderSettings {
    DecoderSettings {
        count: 1,
        memory: 1 << 30,
        cpu_time: Duration::from_secs(20),
        wall_time: Duration::from_mins(1),
        permits_per_watch: 1,
    }
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
