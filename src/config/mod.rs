//! The configuration: what a site writes ([`fragment`]), checked once, becomes what the program uses ([`settings`]).

pub mod settings;

pub use settings::Settings;
