//! The configuration: the values in force, what they may be, and changes that are kept.
//!
//! A change is a merge patch (RFC 7396) of the configuration file. It is checked, written into the file with all that people
//! wrote there left as it is, put in force as far as that goes without a restart, and only then answered. Keys that name a place
//! on this machine (`x-local` in the schema: directories, names of files, certificates, the log's target) are left to those who
//! can write the file; nothing that starts a program is a key at all. Secrets are told as `"***"`, and are not taken as that.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::problem::Problem;
use super::route::{Answer, Call};
use crate::config::{self, Reload};
use crate::control::command::{self, Applied, Refused};
use crate::control::json::{Json as _, Schemas, shape};

shape! {
    /// What a change of the configuration does.
    pub struct ConfigChange {
        /// The keys that are others now.
        differences: Vec<ConfigDifference>,
        /// What waits for a restart, as it would stand in the file.
        needs_restart: Vec<String>,
        /// What is odd about it.
        warnings: Vec<String>,
        /// Whether it is on the disk, and outlives a restart and a power cut.
        written: bool,
    }
}

shape! {
    /// A key that is another one now.
    pub struct ConfigDifference {
        /// The key, e.g. `vhost.default.hls.segment`.
        key: String,
        /// What it was, as it would stand in the file; null where there was none, and for secrets.
        old: Option<String>,
        /// What it is now; null where there is none any more, and for secrets.
        new: Option<String>,
        /// Whether it waits for a restart.
        restart: bool,
    }
}

impl ConfigChange {
    fn of(applied: Applied) -> Self {
        let Applied { differences, needs_restart, warnings, written, .. } = applied;
        let differences = differences.into_iter().map(|difference| ConfigDifference {
            restart: difference.reload == Reload::Restart,
            key: difference.path,
            old: difference.old,
            new: difference.new,
        });
        Self { differences: differences.collect(), needs_restart, warnings, written }
    }
}

/// What a configuration is in the document: the schema of its own says all of it.
pub(super) fn any(_: &mut Schemas) -> Value {
    json!({ "description": "As /api/v2/config/schema says." })
}

/// What a patch is.
pub(super) fn patch_schema(_: &mut Schemas) -> Value {
    json!({
        "type": "object",
        "description": "A merge patch (RFC 7396) of what /api/v2/config/schema describes; null takes a key out of the file, so that \
                        its default holds, or what it inherits.",
        "examples": [{ "log": { "level": "debug" }, "vhost": { "default": { "hls": { "window": null } } } }],
    })
}

/// `GET /api/v2/config`
pub(super) fn values(call: &Call<'_>) -> Result<Answer, Problem> {
    let config = call.api.config.current().to_json();
    let pointer = call.text("pointer").unwrap_or_default();
    match config.pointer(&pointer) {
        Some(value) => Ok(Answer::Json(value.to_string())),
        None => Err(Problem::not_found(format!(
            "there is no {pointer:?} in the configuration; expected a JSON pointer such as /vhost/default/hls"
        ))),
    }
}

/// `GET /api/v2/config/schema`
pub(super) fn schema(_: &Call<'_>) -> Result<Answer, Problem> {
    Ok(Answer::Json(config::schema().to_string()))
}

/// `PATCH /api/v2/config`
pub(super) async fn change(call: &Call<'_>) -> Result<Answer, Problem> {
    let patch: Value = serde_json::from_slice(call.body)
        .map_err(|error| Problem::bad(format!("the body is no JSON: {error}")))?;
    let validate_only = call.flag("validate").unwrap_or_default();
    let changed = call.api.commands.patch(patch, validate_only).await;
    if let (Ok(applied), false) = (&changed, validate_only) {
        let keys: Vec<&str> = applied.differences.iter().map(|difference| &*difference.path).collect();
        call.audit(&format!("changed the configuration: {}", keys.join(", ")));
    }
    answer(changed)
}

/// `POST /api/v2/config/reload`
pub(super) async fn reload(call: &Call<'_>) -> Result<Answer, Problem> {
    let reloaded = call.api.commands.reload().await;
    call.audit(if reloaded.is_ok() {
        "had the configuration read anew"
    } else {
        "had the configuration read anew, which failed"
    });
    answer(reloaded)
}

fn answer(answer: command::Answer) -> Result<Answer, Problem> {
    match answer {
        Ok(applied) => Ok(Answer::Json(ConfigChange::of(applied).to_json())),
        Err(refused) => Err(problem(&refused)),
    }
}

fn problem(refused: &Refused) -> Problem {
    let status = match refused {
        Refused::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Conflict(_) => StatusCode::CONFLICT,
        Refused::Forbidden(_) => StatusCode::FORBIDDEN,
        Refused::Invalid(_) | Refused::Unusable(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::NotWritten(_) => StatusCode::INSUFFICIENT_STORAGE,
    };
    let problem = Problem::new(status, refused.to_string());
    let Refused::Invalid(problems) = refused else { return problem };
    let errors = problems
        .iter()
        .map(|problem| json!({ "place": problem.place, "key": problem.key, "text": problem.text }));
    problem.with("errors", errors.collect())
}
