//! The rules, free of any input or output: identifiers, deciding, placing, settling.
//!
//! Nothing here reads a clock, a file or a socket; everything can be tested by giving values and looking at values.

pub mod category;
pub mod close_call;
pub mod correction;
pub mod decision;
pub mod dossier;
pub mod drift;
pub mod instance;
pub mod placement;
pub mod settle;
pub mod terms;
pub mod view_code;

pub use category::{CategoryId, View};
pub use correction::{Origin, Pending, Shown};
pub use decision::{Decision, Prediction, Reason};
pub use dossier::Dossier;
pub use instance::{Header, Instance, Pseudonym, SopInstanceUid, Uid};
pub use placement::{Fingerprint, Placement, RelPath};
