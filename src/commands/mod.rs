//! (to be written)

#[cfg(feature = "retrain")]
pub mod train_phantom;
