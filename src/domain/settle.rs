//! (written by the watch helper)
