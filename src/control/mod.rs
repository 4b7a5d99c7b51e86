//! Control: what operators and their programs talk to.
//!
//! | room | what |
//! |---|---|
//! | [`api`] | the HTTP API: `/api/v1` as SRS answers it, `/api/v2` our own, health |
//! | [`command`] | what the API asks of the server: a reload, a change of the configuration |
//! | [`hooks`] | callbacks: a server of the operator's is asked who may come, and told what happens |
//! | [`metrics`] | figures for Prometheus |
//! | [`system`] | what the machine and this process do, read from `/proc` when someone asks |
//! | [`json`] | JSON written from declarations that its schemas are made of, too |

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "api")]
pub mod command;
#[cfg(feature = "hooks")]
pub mod hooks;
#[cfg(any(feature = "api", feature = "hooks"))]
pub mod json;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(any(feature = "api", feature = "hooks", feature = "metrics"))]
pub mod system;
