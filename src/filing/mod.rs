//! Moving files and writing down what was done: the ledger, the filer, recovery and the quarantine.

pub mod record;
