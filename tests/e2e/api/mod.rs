//! The HTTP API, asked while real publishers and players are there.

mod json;
mod srs;
