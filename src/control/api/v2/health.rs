//! For whoever starts and stops servers: it lives, it is ready. They say nothing else, so that they need no credentials.

use hyper::StatusCode;

use super::problem::Problem;
use super::route::{Answer, Call};
use crate::control::json::{Json as _, choices, shape};

choices! {
    /// How it is.
    pub enum State {
        /// Well.
        Ok = "ok",
    }
}

shape! {
    /// How the server is.
    pub struct Health {
        /// Well.
        status: State,
    }
}

/// `/healthz`
pub(super) fn live(_: &Call<'_>) -> Result<Answer, Problem> {
    Ok(Answer::Json(Health { status: State::Ok }.to_json()))
}

/// `/readyz`
pub(super) fn ready(call: &Call<'_>) -> Result<Answer, Problem> {
    if *call.api.stopping.borrow() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"));
    }
    live(call)
}
