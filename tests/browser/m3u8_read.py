# What PyPI's m3u8 reads in media playlists: one line each.   python m3u8_read.py FILE...
import sys

import m3u8

for name in sys.argv[1:]:
    playlist = m3u8.load(name)
    whole = [segment for segment in playlist.segments if segment.uri]
    parts = sum(len(segment.parts) for segment in playlist.segments)
    ms = sum(round(segment.duration * 1000) for segment in whole)
    print(playlist.target_duration, playlist.media_sequence, len(whole), ms, parts, str(playlist.is_endlist).lower())
