//! The program as a process: command line, configuration, signals, PID file. All ports are 0.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // a test fails by panicking

mod configuration;
mod running;
mod supervision;
mod support;
#[cfg(feature = "access")]
mod users;
