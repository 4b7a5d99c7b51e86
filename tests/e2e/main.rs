//! Scenarios: real clients against the real server. `scripts/test` installs the clients and runs them.

#[cfg(test)]
mod access;
#[cfg(test)]
mod api;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod config;
#[cfg(test)]
mod dash;
#[cfg(test)]
mod hls;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod idle;
#[cfg(test)]
mod join;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod mp4;
#[cfg(test)]
mod other_clients;
#[cfg(test)]
mod playback;
#[cfg(test)]
mod publish_play;
#[cfg(test)]
mod record;
#[cfg(test)]
mod record_faults;
#[cfg(test)]
mod relays;
#[cfg(test)]
mod republish;
#[cfg(test)]
mod scan;
#[cfg(test)]
mod slow_readers;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod srs_conf;
#[cfg(test)]
mod srt;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod webrtc;
