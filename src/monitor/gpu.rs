//! Memory of the GPU, as the driver's own `nvidia-smi` tells it; nothing where there is none.

use std::process::Command;
use std::time::Duration;

use super::bounded;
use crate::control::status::GpuMemory;

/// How long the tool may take; a driver in trouble hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks. Blocks.
pub fn memory() -> Vec<GpuMemory> {
    let mut command = Command::new("nvidia-smi");
    command.args([
        "--query-gpu=index,memory.used,memory.total",
        "--format=csv,noheader,nounits",
    ]);
    match bounded::run(command, PATIENCE) {
        Ok(text) => parse(&text),
        Err(error) => {
            tracing::debug!(%error, "the GPU's memory is not known");
            Vec::new()
        }
    }
}

/// `0, 512, 46068`: number, MiB in use, MiB altogether; a line a GPU. What is not a number (`[N/A]`) is left out.
fn parse(text: &str) -> Vec<GpuMemory> {
    let line = |line: &str| {
        let mut numbers = line.split(',').map(|field| field.trim().parse::<u64>());
        let mut next = || numbers.next()?.ok();
        let (number, used, total) = (next()?, next()?, next()?);
        Some(GpuMemory {
            number: u32::try_from(number).ok()?,
            used: used.checked_mul(1 << 20)?,
            total: total.checked_mul(1 << 20)?,
        })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_table_is_read_and_what_it_does_not_know_is_left_out() {
        let read = parse("0, 512, 46068\n1, [N/A], [N/A]\n\nFailed to initialize NVML\n2, 1, 2\n");
        let gpu = |number, used: u64, total: u64| GpuMemory {
            number,
            used: used << 20,
            total: total << 20,
        };
        assert_eq!(read, [gpu(0, 512, 46068), gpu(2, 1, 2)]);
    }
}
