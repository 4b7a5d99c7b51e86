//! Rules that need no credential: where a client comes from, and on which page its player stands.

use std::net::IpAddr;

use crate::config::{IpRule, VhostAccess};
use crate::hub::Action;

/// Why the addresses' rules refuse, if they do. The order is SRS's: what any rule denies is refused; what one allows is let
/// in; what none speaks of is refused, unless there are only rules that deny.
pub(super) fn refused_address(access: &VhostAccess, action: Action, address: IpAddr) -> Option<String> {
    if !access.check_ip {
        return None;
    }
    let rules = &access.ip_rules;
    let about = |rule: &&IpRule| rule.publish == (action == Action::Publish) && rule.network.has(address);
    if let Some(rule) = rules.iter().filter(|rule| !rule.allow).find(about) {
        return Some(format!("address {address}: rule \"{rule}\""));
    }
    if rules.iter().filter(|rule| rule.allow).any(|rule| about(&rule)) {
        return None;
    }
    // As in SRS, a rule that allows publishing makes players need one, too.
    let refused = rules.is_empty() || rules.iter().any(|rule| rule.allow);
    refused.then(|| format!("address {address}: no rule of ip_rules allows it"))
}

/// Why the page that a player stands on is refused, if it is.
pub(super) fn refused_page(access: &VhostAccess, action: Action, page: &str) -> Option<String> {
    if !access.check_refer {
        return None;
    }
    let domain = domain(page);
    let of_action = if action == Action::Publish { &access.refer_publish } else { &access.refer_play };
    let fits = |list: &[String]| list.is_empty() || list.iter().any(|known| is_within(&domain, known));
    if fits(&access.refer_all) && fits(of_action) {
        return None;
    }
    Some(if domain.is_empty() { "no page is named".to_owned() } else { format!("page on {domain:?}") })
}

/// Whether `domain` is `known` or below it. `evil-example.com` is not below `example.com`.
fn is_within(domain: &str, known: &str) -> bool {
    let known = known.trim_start_matches('.').to_ascii_lowercase();
    let Some(front) = domain.strip_suffix(known.as_str()) else { return false };
    !known.is_empty() && (front.is_empty() || front.ends_with('.'))
}

/// The host of a page's URL, in lower case, as browsers find it.
fn domain(page: &str) -> String {
    let rest = page.split_once("://").map_or(page, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip_access(rules: &[&str]) -> VhostAccess {
        let ip_rules = rules.iter().map(|rule| IpRule::of(rule).unwrap()).collect();
        VhostAccess { check_ip: true, ip_rules, ..VhostAccess::default() }
    }

    #[test]
    fn addresses_in_the_order_of_srs() {
        use Action::{Play, Publish};
        for (rules, action, address, admitted) in [
            (&[][..], Play, "1.1.1.1", false),
            (&["allow play all"], Play, "1.1.1.1", true),
            (&["allow play all"], Publish, "1.1.1.1", false),
            (&["deny play all"], Play, "1.1.1.1", false),
            (&["deny play all"], Publish, "1.1.1.1", true),
            (&["deny play 2.2.2.2"], Play, "1.1.1.1", true),
            (&["deny publish 1.1.1.1"], Publish, "1.1.1.1", false),
            (&["deny publish 1.1.1.1", "allow publish all"], Publish, "1.1.1.1", false),
            (&["allow publish all", "deny publish 1.1.1.1"], Publish, "1.1.1.1", false),
            (&["allow publish all", "deny publish 1.1.1.1"], Publish, "1.1.1.2", true),
            (&["allow publish 10.0.0.0/8"], Publish, "10.1.1.1", true),
            (&["allow publish 10.0.0.0/8"], Publish, "11.1.1.1", false),
            (&["allow publish 10.0.0.0/8"], Play, "10.1.1.1", false),
            (&["allow publish 127.0.0.1", "allow play all"], Play, "9.9.9.9", true),
            (&["deny play 10.0.0.0/8", "allow play 10.1.0.0/16"], Play, "10.1.1.1", false),
            (&["deny play 10.0.0.0/8", "allow publish all"], Play, "11.1.1.1", false),
            (&["allow play 10.0.0.0/8"], Play, "::ffff:10.0.0.1", true),
            (&["deny play 10.0.0.0/8"], Play, "::ffff:10.0.0.1", false),
            (&["allow play fd00::/8"], Play, "fd00::7", true),
            (&["allow play fd00::/8"], Play, "fe80::7", false),
        ] {
            let refused = refused_address(&ip_access(rules), action, address.parse().unwrap());
            assert_eq!(refused.is_none(), admitted, "{rules:?} {action:?} {address}: {refused:?}");
        }
        let off = VhostAccess { check_ip: false, ..ip_access(&["deny play all"]) };
        assert_eq!(refused_address(&off, Play, [1, 1, 1, 1].into()), None);
    }

    #[test]
    fn pages() {
        use Action::{Play, Publish};
        let list = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let access = VhostAccess {
            check_refer: true,
            refer_play: list(&["example.com", ".Example.org"]),
            ..VhostAccess::default()
        };
        for (page, admitted) in [
            ("http://example.com/", true),
            ("https://www.example.com:8443/a?b", true),
            ("http://EXAMPLE.com", true),
            ("http://example.com./", true),
            ("example.com/page", true),
            ("http://example.org", true),
            ("http://a.example.org", true),
            ("", false),
            ("http://evilexample.com/", false),
            ("http://example.com.evil.net/", false),
            ("http://evil.net/example.com", false),
            ("http://evil.net?example.com", false),
            ("http://evil.net#.example.com", false),
            ("http://evil.net\\.example.com", false),
            ("http://example.com@evil.net/", false),
            ("http://evil.net:80.example.com/", false),
            ("http://[::1]/", false),
        ] {
            assert_eq!(refused_page(&access, Play, page).is_none(), admitted, "{page}");
        }
        assert_eq!(refused_page(&access, Publish, ""), None, "nothing is said of publishers");
        let both = VhostAccess {
            refer_all: list(&["example.com"]),
            refer_publish: list(&["a.example.com"]),
            ..access
        };
        assert!(refused_page(&both, Publish, "http://example.com").is_some());
        assert!(refused_page(&both, Publish, "http://a.example.com").is_none());
        assert!(refused_page(&both, Play, "http://example.org").is_some());
        let off = VhostAccess { check_refer: false, ..both };
        assert!(refused_page(&off, Play, "").is_none());
        let nothing = VhostAccess { check_refer: true, refer_all: list(&[""]), ..VhostAccess::default() };
        assert!(refused_page(&nothing, Play, "").is_some());
    }
}
