//! The one place where `unsafe` is allowed: system calls and C codecs that no safe crate offers.
//!
//! Each file has one subject, keeps its `unsafe` blocks a few lines long, says in a `SAFETY` comment why each is
//! sound, and exposes only safe functions.

#[cfg(feature = "failpoints")]
pub mod escape;
pub mod heap;
pub mod lease;
pub mod mask;
pub mod openjpeg_encode;
pub mod peer;
pub mod process;
pub mod terminal;
pub mod turbojpeg;
pub mod turbojpeg_encode;
pub mod writeback;
