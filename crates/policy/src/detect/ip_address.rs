//! Addresses of machines: IPv4 and IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::candidate::{Candidate, Found, LIKELY, SURE, UNLIKELY};
use super::{Group, Kind};

/// What parses as an address (RFC 6943 section 3.1.1, strict form; RFC 4291 section 2.2) and is not
/// that of the machine itself, everybody or nobody. Four small numbers are more often a version.
pub(super) const IP_ADDRESS: Kind = Kind {
    name: "ip_address",
    group: Group::Network,
    patterns: &[
        r"(?-u:\b)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?-u:\b)",
        r"(?i)[0-9A-F]{0,4}(?::[0-9A-F]{0,4}){2,8}(?:\.[0-9]{1,3}){0,3}",
    ],
    words: &[
        "address", "adresse", "client", "dns", "firewall", "gateway", "host", "ip", "ips", "ipv4",
        "ipv6", "ping", "router", "server", "ssh", "subnet",
    ],
    judge,
};

/// Words beside which four numbers are a version.
const VERSIONS: &[&str] = &[
    "build", "chrome", "driver", "firmware", "release", "update", "upgrade", "upgraded", "v",
    "ver", "version",
];

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let whole = candidate.as_str();
    // The colon of a sentence.
    let is_cut = whole.ends_with(':') && !whole.ends_with("::");
    let text = if is_cut { &whole[..whole.len() - 1] } else { whole };
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | ':');
    let mut after = candidate.after().chars();
    let is_longer = match after.next() {
        Some('.' | '-') => after.next().is_some_and(char::is_alphanumeric),
        Some(c) => c.is_alphanumeric() || c == '_',
        None => false,
    };
    if candidate.before().chars().next_back().is_some_and(is_part) || is_longer {
        return None;
    }
    let confidence = match text.parse().ok()? {
        IpAddr::V4(address) => of_v4(address, candidate)?,
        IpAddr::V6(address) => of_v6(address, text)?,
    };
    candidate.first(text.len(), confidence)
}

fn of_v4(address: Ipv4Addr, candidate: &Candidate<'_>) -> Option<f32> {
    if address.is_loopback() || address.is_unspecified() || address.is_broadcast() {
        return None;
    }
    let is_small = address.octets().into_iter().all(|octet| octet < 32);
    if candidate.has_word() {
        return Some(SURE);
    }
    Some(if is_small || candidate.is_near(VERSIONS) { UNLIKELY } else { LIKELY })
}

fn of_v6(address: Ipv6Addr, text: &str) -> Option<f32> {
    let groups: Vec<&str> = text.split(':').filter(|group| !group.is_empty()).collect();
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    // Eight pairs of digits name a port of a network of disks; `ab::cd` is a path in a program.
    let is_other = groups.len() == 8 && groups.iter().all(|group| group.len() == 2);
    let is_path = groups.len() < 3 && !has_digit;
    let is_nobody = address.is_loopback() || address.is_unspecified();
    (!is_nobody && !is_other && !is_path).then_some(SURE)
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn addresses_are_found() {
        check("ping 10.0.0.5", &["ip_address:10.0.0.5"]);
        check("203.0.113.77:8080", &["ip_address:203.0.113.77"]);
        check("192.168.0.0/16.", &["ip_address:192.168.0.0"]);
        check("fe80::1:", &["ip_address:fe80::1"]);
        check("[2001:db8::8a2e:370:7334]:443", &["ip_address:2001:db8::8a2e:370:7334"]);
        check("::ffff:192.0.2.128", &["ip_address:::ffff:192.0.2.128"]);
    }

    #[test]
    fn others_are_not() {
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "version 4.18.0.1",
            "1.2.3.4",
            "Chrome 119.0.6045.105",
            "v203.0.113.77",
            "203.0.113.77-beta",
            "203.0.113.256",
            "203.0.113.77.5",
            "12:30:45",
            "std::vec::Vec",
            "ab::cd",
            "00:1A:2B:3C:4D:5E",
            "50:06:01:60:3b:20:19:4c",
            "::1",
        ] {
            check(text, &[]);
        }
    }
}
