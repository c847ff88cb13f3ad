//! How much memory training takes, and how much there is: a batch that does not fit is halved before it is tried
//! ([`super::first_step`]), because the CPU device does not report that memory ran out, the kernel kills it.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::graph::Graph;

/// Copies of each activation at the worst moment of a step: forward for backward, its gradient, and what an operator needs
/// besides (unfolded convolutions). Measured on the CPU: 0.4 (ConvNeXt) to 1.8 (`ResNet`-18) with torchvision's networks at
/// 224 × 224, 1.1 with the shipped ones.
const COPIES_OF_ACTIVATIONS: u64 = 2;
/// Copies of each weight: itself, gradient, two moments, average, best, and the last good state of the first five.
const COPIES_OF_WEIGHTS: u64 = 11;
/// The part of free memory that training may take, in percent.
const PART_PERCENT: u64 = 70;

/// Bytes that a training step with so many pictures takes, about.
pub fn of_training(graph: &Graph, batch: usize) -> u64 {
    4 * (graph.learned() * COPIES_OF_WEIGHTS
        + graph.activations() * COPIES_OF_ACTIVATIONS * batch as u64)
}

/// Bytes that may be taken: what the machine has free, or what control groups or the limit of the address space leave.
pub fn available() -> Option<u64> {
    let free = meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limits = [groups_leave(), address_space_left()];
    Some(limits.into_iter().flatten().fold(free, u64::min))
}

/// What this process's control group and those above it leave (cgroup v2).
fn groups_leave() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = Path::new("/sys/fs/cgroup");
    let folder = mount.join(own.trim_start_matches('/'));
    let leaves = |folder: &Path| -> Option<u64> {
        let number = |name| -> Option<u64> {
            let text = fs::read_to_string(folder.join(name)).ok()?;
            text.trim().parse().ok()
        };
        Some(number("memory.max")?.saturating_sub(number("memory.current")?))
    };
    let above = folder
        .ancestors()
        .take_while(|folder| folder.starts_with(mount));
    above.filter_map(leaves).min()
}

/// What the limit of the address space (`ulimit -v`) leaves to this process, if there is one.
pub fn address_space_left() -> Option<u64> {
    let limit = getrlimit(Resource::As).current?;
    Some(limit.saturating_sub(address_space_taken()?))
}

/// How much address space this process has.
pub fn address_space_taken() -> Option<u64> {
    of_kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmSize:")
}

/// `MemAvailable` in bytes (proc(5)).
fn meminfo(text: &str) -> Option<u64> {
    of_kibibytes(text, "MemAvailable:")
}

fn of_kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The largest batch, halved from `batch` on, with which a step fits into `available` bytes, and how many such batches
/// make a step of the size that was wanted.
pub fn fitting(graph: &Graph, batch: usize, available: u64) -> (usize, usize) {
    let (mut fits, mut batches) = (batch.max(1), 1);
    while fits > 1 && of_training(graph, fits) > available / 100 * PART_PERCENT {
        fits = fits.div_ceil(2);
        batches *= 2;
    }
    (fits, batches)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::retrain::network::Architecture;

    #[test]
    fn a_batch_that_does_not_fit_is_halved_until_it_does_and_a_step_stays_as_large() {
        let graph = Graph::new(Architecture::small(32, 32, 3).build(1)).unwrap();
        let whole = of_training(&graph, 16);
        assert_eq!(fitting(&graph, 16, 2 * whole), (16, 1));
        let (batch, batches) = fitting(&graph, 16, whole);
        assert!(batch < 16 && batch * batches >= 16, "{batch} × {batches}");
        assert_eq!(
            fitting(&graph, 16, 0),
            (1, 16),
            "one picture at a time is the least"
        );
    }

    #[test]
    fn free_memory_is_what_the_kernel_says_is_available() {
        let text = "MemTotal:  100 kB\nMemFree:  10 kB\nMemAvailable:     50 kB\n";
        assert_eq!(meminfo(text), Some(50 * 1024));
        assert_eq!(meminfo("MemTotal: 1 kB"), None);
        assert!(available().unwrap() > 0);
        assert!(address_space_taken().unwrap() > 1 << 20);
    }
}
