//! Recordings, as far as there is someone who records.

use std::sync::Arc;

use hyper::StatusCode;

use super::problem::Problem;
use super::route::{Answer, Call};
use super::streams;
use crate::control::json::{Json as _, Time, choices, shape};
use crate::hub::RecordState;

shape! {
    /// A page of recordings.
    pub struct Recordings {
        /// The recordings.
        items: Vec<Recording>,
        /// What to give as "after" for the page behind; null: this is the last.
        next: Option<String>,
    }
}

shape! {
    /// A file that was recorded.
    pub struct Recording {
        /// Its id, the same as long as the file is there.
        id: String,
        /// Virtual host.
        vhost: String,
        /// Application.
        app: String,
        /// The stream's name.
        name: String,
        /// When it begins.
        start: Time,
        /// When it ends, so far.
        end: Time,
        /// How long it plays, so far.
        duration_ms: u64,
        /// Its size, so far.
        bytes: u64,
        /// flv, fmp4, mp4 or ts.
        format: String,
        /// Whether it is being written.
        recording: bool,
        /// Its path on the HTTP port.
        url: String,
    }
}

choices! {
    /// What becomes of a stream's recording.
    pub enum State {
        /// It can't be written; "error" says why. It is tried again.
        Failed = "failed",
        /// It isn't recorded.
        Off = "off",
        /// It is being recorded.
        Recording = "recording",
        /// Nothing to begin a file with has come yet.
        Waiting = "waiting",
    }
}

shape! {
    /// How a stream's recording stands.
    pub struct Status {
        /// What becomes of it.
        state: State,
        /// Why it fails, and what to do.
        error: Option<String>,
        /// Files closed since the recording began.
        files: u64,
        /// Frames that are in no file since they could not be written in time, or at all.
        lost_frames: u64,
    }
}

/// `/api/v2/recordings`
pub(super) async fn list(call: &Call<'_>) -> Result<Answer, Problem> {
    let turn = call.api.turn.lock().await;
    let failed =
        |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the list of recordings could not be made");
    let recorder = Arc::clone(&call.api.recorder);
    let mut all = tokio::task::spawn_blocking(move || recorder.list()).await.map_err(failed)?;
    drop(turn);
    let wanted = ["vhost", "app", "name"].map(|name| call.text(name));
    let is =
        |n: usize, text: &str| wanted.get(n).and_then(Option::as_ref).is_none_or(|wanted| wanted == text);
    all.retain(|file| is(0, &file.name.vhost) && is(1, &file.name.app) && is(2, &file.name.stream));
    let all = all.into_iter().map(|file| {
        let time = |ms: i64| {
            let since = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            Time(std::time::UNIX_EPOCH + since)
        };
        let duration_ms = u64::try_from(file.duration_ms).unwrap_or(0);
        Recording {
            // Of thirteen digits until the year 2286, and so in the order of time.
            id: format!("{:013}/{}/{}/{}", file.start_ms, file.name.vhost, file.name.app, file.name.stream),
            start: time(file.start_ms),
            end: time(file.start_ms.saturating_add(file.duration_ms)),
            duration_ms,
            bytes: file.bytes,
            format: file.format.to_owned(),
            recording: file.growing,
            url: file.url,
            vhost: file.name.vhost,
            app: file.name.app,
            name: file.name.stream,
        }
    });
    let (items, next) = call.page(all.collect(), |file| file.id.clone());
    Ok(Answer::Json(Recordings { items, next }.to_json()))
}

/// `/api/v2/streams/{id}/recording`
pub(super) fn status(call: &Call<'_>) -> Result<Answer, Problem> {
    let stream = streams::find(call)?;
    let all = call.api.recorder.status();
    let status = match all.into_iter().find(|status| status.name == stream.name) {
        None => Status { state: State::Off, error: None, files: 0, lost_frames: 0 },
        Some(found) => {
            let (state, error) = match found.state {
                RecordState::Failed(why) => (State::Failed, Some(why)),
                RecordState::Recording(_) => (State::Recording, None),
                RecordState::Waiting => (State::Waiting, None),
            };
            Status { state, error, files: found.files, lost_frames: found.lost }
        }
    };
    Ok(Answer::Json(status.to_json()))
}

/// `POST /api/v2/streams/{id}/recording/start`
pub(super) fn start(call: &Call<'_>) -> Result<Answer, Problem> {
    let stream = streams::find(call)?;
    let begun = call.api.recorder.start(&stream.name);
    begun.map_err(|why| Problem::new(StatusCode::CONFLICT, why.to_string()))?;
    call.audit(&format!("started the recording of {}", stream.name));
    Ok(Answer::Nothing)
}

/// `POST /api/v2/streams/{id}/recording/stop`
pub(super) fn stop(call: &Call<'_>) -> Result<Answer, Problem> {
    let stream = streams::find(call)?;
    call.api.recorder.stop(&stream.name);
    call.audit(&format!("stopped the recording of {}", stream.name));
    Ok(Answer::Nothing)
}
