//! radsort watches DICOM drop directories, classifies each new radiograph through ONNX Runtime, files it into a
//! category folder and keeps an index.
//!
//! The map, inward to outward: [`domain`] holds the rules and touches nothing outside memory. Around it sit the
//! adapters: [`watch`] finds files and waits until they are complete, [`decode`] reads them in a jail, [`model`]
//! classifies, [`filing`] moves and records, [`index`] answers questions. [`ingest`] tells the story of one file from
//! top to bottom; [`metrics`] counts and [`monitor`] looks after it all; [`judgement`] and [`library_watch`] take what people say and do about it; [`daemon`] keeps many of those going; [`control`] and [`commands`] are how people talk to it.
//! [`phantom`] makes synthetic radiographs with known truth; [`retrain`] fits models.

pub mod cli;
pub mod commands;
pub mod config;
pub mod contact_sheet;
pub mod control;
pub mod daemon;
pub mod decode;
pub mod domain;
pub mod engine;
pub mod filing;
pub mod handler;
pub mod index;
pub mod ingest;
pub mod intake;
pub mod judgement;
pub mod library_watch;
pub mod metrics;
pub mod model;
pub mod monitor;
pub mod pass;
pub mod phantom;
#[cfg(feature = "retrain")]
pub mod retrain;
pub mod root;
pub mod said_at;
pub mod separator;
pub mod service_manager;
pub mod state;
#[allow(unsafe_code)]
pub mod sys;
pub mod telemetry;
pub mod watch;
pub mod watchdog;
