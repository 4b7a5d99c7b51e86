//! Manifests as files, for streams whose segments are on disk and which another server gives out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::line::Line;
use super::mpd::{self, Terms};
use crate::config::{self, Shared};
use crate::hub::StreamName;
use crate::segments::{PlaylistFiles, State, playlist_name};

/// The most streams of which it is remembered where their Periods began.
const MOST: usize = 1000;

/// Writes manifests by the configuration of their stream.
pub(super) fn writer(config: Shared) -> Arc<PlaylistFiles> {
    let lines: Mutex<Vec<(StreamName, Line)>> = Mutex::default();
    Arc::new(move |name, state| {
        let config = config.current();
        let dash = &config.vhost(&name.vhost, &name.app, &name.stream).dash;
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        // The newest last.
        let known = lines.iter().position(|(of, _)| of == name).map(|at| lines.remove(at));
        let (_, mut line) = known.unwrap_or_else(|| (name.clone(), Line::default()));
        let file = file(name, state, dash, &mut line);
        if lines.len() >= MOST {
            lines.remove(0);
        }
        lines.push((name.clone(), line));
        file.into_iter().collect()
    })
}

/// Name below the root, and text.
fn file(
    name: &StreamName,
    state: &State,
    config: &config::Dash,
    line: &mut Line,
) -> Option<(String, String)> {
    state.main().filter(|main| !main.segments.is_empty())?;
    let file = playlist_name(name, &config.mpd_file);
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_millis());
    let terms = Terms {
        // What grows is not on disk.
        config: &config::Dash { low_latency: false, ..config.clone() },
        base: "",
        query: "",
        location: None,
        now_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
        file: Some(&file),
    };
    let text = mpd::write(state, line, &terms)?;
    Some((file, text))
}
