//! The model: what a bundle holds ([`manifest`]).

pub mod manifest;

pub use manifest::Manifest;
