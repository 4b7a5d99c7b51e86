//! Playlists as files, for streams whose segments are on disk and which another server gives out.

use std::sync::Arc;

use super::media::{self, Form};
use super::multivariant;
use super::text::Base;
use crate::config::{self, Shared};
use crate::hub::StreamName;
use crate::segments::{PlaylistFiles, State, playlist_name};

/// Writes playlists by the configuration of their stream.
pub(super) fn writer(config: Shared) -> Arc<PlaylistFiles> {
    Arc::new(move |name, state| {
        let config = config.current();
        files(name, state, &config.vhost(&name.vhost, &name.app, &name.stream).hls)
    })
}

/// Name below the root, and text, of each playlist: what is asked for comes last, so that it never leads to what isn't
/// there yet.
fn files(name: &StreamName, state: &State, config: &config::Hls) -> Vec<(String, String)> {
    if state.main().is_none_or(|main| main.segments.is_empty()) {
        return Vec::new();
    }
    let main = playlist_name(name, &config.playlist_file);
    let media = |id: &str, playlist: String| {
        let base = Base { playlist: &playlist, prefix: &config.url_prefix };
        let rendition = state.rendition(id)?;
        let text = media::playlist(state, rendition, &Form { base, config, skip: false });
        Some((playlist, text.as_str().to_owned()))
    };
    if multivariant::is_single(state) {
        let id = state.main().map(|main| main.id.clone()).unwrap_or_default();
        return media(&id, main).into_iter().collect();
    }
    let stem = main.strip_suffix(".m3u8").unwrap_or(&main);
    let renditions = state.renditions.iter().map(|rendition| &rendition.id);
    let mut all: Vec<_> = renditions.filter_map(|id| media(id, format!("{stem}/{id}.m3u8"))).collect();
    let text = multivariant::playlist(state, stem, false);
    all.push((main.clone(), text.as_str().to_owned()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::tests::Scene;

    #[test]
    fn files_lead_to_each_other() {
        let name = StreamName::new("v", "live", "demo").unwrap();
        let config =
            config::Hls { playlist_file: "[vhost]/[stream].m3u8".to_owned(), ..config::Hls::default() };
        let mut scene = Scene::new(false, false);
        (0..5).for_each(|part| scene.grow(part));
        let all = files(&name, &scene.state, &config);
        assert_eq!((all.len(), all[0].0.as_str()), (1, "v/demo.m3u8"));
        assert!(all[0].1.contains("\n../live/demo-0.ts\n"), "{}", all[0].1);
        let mut scene = Scene::new(true, false);
        assert_eq!(files(&name, &State { renditions: Vec::new(), ..scene.state.clone() }, &config), []);
        (0..5).for_each(|part| scene.grow(part));
        let all = files(&name, &scene.state, &config);
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["v/demo/v0.m3u8", "v/demo/a1.m3u8", "v/demo.m3u8"]);
        assert!(all[0].1.contains("\n../../live/demo-0-v0.m4s\n"), "{}", all[0].1);
        assert!(all[2].1.contains("\ndemo/v0.m3u8\n"), "{}", all[2].1);
    }
}
