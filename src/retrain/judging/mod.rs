//! How a classifier is judged, what may be promised about it, and how both are told.
//!
//! All of it is arithmetic on plain data: [`outcome`] is what happened to one labelled image, [`figures`] what many of them
//! amount to, [`promise`] what may be said about files that nobody looks at, [`compare`] whether a candidate may take the
//! place of the bundle in use, [`baseline`] what can be told without looking at the picture, [`report`] the page. No type
//! here has a place for a patient's name, ID or birth date; images and patients are known by pseudonyms, and pseudonyms of
//! patients do not reach the report.

pub mod baseline;
pub mod compare;
pub mod figures;
pub mod intervals;
pub mod outcome;
pub mod outside;
pub mod promise;
pub mod report;
pub mod svg;

#[cfg(test)]
pub(crate) mod examples;
