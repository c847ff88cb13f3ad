//! When a file is complete.
