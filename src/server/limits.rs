//! How many descriptors the system lets us have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, log, poll loops, files being served.
const RESERVED: u64 = 64;

/// Raises the limit of open files so that `connections` fit, and says how many do.
pub(super) fn fit(connections: u32) -> u32 {
    let wanted = u64::from(connections) + RESERVED;
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|n| n >= wanted);
    if !enough(limit.current) {
        let hard = if enough(limit.maximum) { limit.maximum } else { Some(wanted) };
        // Above the hard limit only root may go; then as far as it is.
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: hard });
        if raised.is_err() {
            let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
            if let Err(error) = setrlimit(Resource::Nofile, most) {
                log::warn!("cannot raise the limit of open files: {error}");
            }
        }
    }
    allowed(connections, getrlimit(Resource::Nofile).current)
}

fn allowed(connections: u32, files: Option<u64>) -> u32 {
    let Some(files) = files else { return connections };
    let fit = u32::try_from(files.saturating_sub(RESERVED)).unwrap_or(u32::MAX).max(1);
    if fit < connections {
        log::warn!(
            "the system allows this process {files} open files, which are enough for {fit} connections, not for \
             server.max_connections = {connections}: raise it (LimitNOFILE= in the unit, or ulimit -n), or lower \
             the key"
        );
    }
    fit.min(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_files() {
        assert_eq!(allowed(1000, None), 1000);
        assert_eq!(allowed(1000, Some(1064)), 1000);
        assert_eq!(allowed(1000, Some(1024)), 960);
        assert_eq!(allowed(1000, Some(10)), 1);
    }

    #[test]
    fn the_limit_is_raised() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let wanted = hard.map_or(2000, |n| u32::try_from(n / 2).unwrap_or(u32::MAX).clamp(1, 2000));
        assert!(fit(wanted) >= 1);
        assert!(getrlimit(Resource::Nofile).current.is_none_or(|n| n >= u64::from(fit(wanted))));
    }
}
