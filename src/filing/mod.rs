//! Moving files and writing down what was done, so that no file is ever lost.
//!
//! The filesystem and the [`ledger`] are the truth. The [`filer`] writes an Intent, then acts ([`prepare`] and
//! [`carry`], on the share's own thread, [`share`]), then writes what became of it, and only then tells anyone.
//! [`recover`] finishes or undoes what a crash interrupted. [`destinations`] are the library, quarantine and duplicates;
//! [`consumed`] remembers what was copied, observed or left, [`quarantine`] lists and gives back, [`secrets`] holds the key
//! of the pseudonyms. [`checkpoint`] makes the start short where the ledger is long. [`alarms`] counts what nobody may overlook.

pub mod alarms;
mod carry;
pub mod catalogue;
pub mod checkpoint;
pub mod consumed;
pub mod destinations;
pub mod failpoints;
pub mod filer;
pub mod ledger;
pub mod names;
mod prepare;
pub mod quarantine;
pub mod record;
pub mod recover;
pub mod replay;
pub mod request;
mod restore;
pub mod secrets;
mod share;
pub mod timing;
mod worker;

#[cfg(test)]
mod tests;
