//! What a VM may reach on the network, as users write it: `--allow RULE`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::dns_name::DnsName;
use super::refusal::Refusal;

const FORMS: &str = "a rule is HOST, *.HOST, an address, a network such as 192.168.1.0/24, or 'host', \
                     and may end in :PORT";

/// One permission, written `TARGET[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowRule {
    pub target: AllowTarget,
    /// `None` is every port.
    pub port: Option<u16>,
}

/// Whom a rule permits connections to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowTarget {
    Name(DnsName),
    /// All names below this one, but not the name itself.
    Below(DnsName),
    Range(AddressRange),
    /// The host's loopback addresses, through the guest's gateway.
    Host,
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    prefix: u8,
}

impl AddressRange {
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address, self.prefix) == self.first && address.is_ipv4() == self.first.is_ipv4()
    }
}

/// An address with all bits after the prefix cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

impl AllowRule {
    /// Whether the rule is for this port.
    pub fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|only| only == port)
    }

    /// Whether the rule is for this name, on some port.
    pub fn names(&self, name: &DnsName) -> bool {
        match &self.target {
            AllowTarget::Name(only) => only == name,
            AllowTarget::Below(parent) => name.is_below(parent),
            AllowTarget::Range(_) | AllowTarget::Host => false,
        }
    }
}

impl FromStr for AllowRule {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<AllowRule, Refusal> {
        let refuse = |why: String| Refusal::usage(format!("cannot allow {text:?}: {why}"));
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = host.rsplit('@').next().unwrap_or_default();
            return Err(refuse("it is a URL".into()).hint(format!("name the host only: {host:?}")));
        }
        let (target, port) = split_port(text).ok_or_else(|| {
            refuse("the brackets are not closed, or something else than :PORT follows".into())
                .hint("write an IPv6 address with a port as [2001:db8::1]:443")
        })?;
        let port = port.map(|port| parse_port(port).map_err(refuse)).transpose()?;
        let target = parse_target(target).map_err(|mut refusal| {
            refusal.message = format!("cannot allow {text:?}: {}", refusal.message);
            refusal
        })?;
        Ok(AllowRule { target, port })
    }
}

/// The target and the port of a rule. Several colons without brackets are an IPv6 address without a port.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
        return address.contains(':').then_some((address, port));
    }
    match text.split_once(':') {
        Some((target, port)) if !port.contains(':') => Some((target, Some(port))),
        _ => Some((text, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|&port: &u16| digits && port > 0);
    port.ok_or_else(|| format!("{text:?} is not a port, a number from 1 to 65535"))
}

fn parse_target(text: &str) -> Result<AllowTarget, Refusal> {
    if text == "host" {
        return Ok(AllowTarget::Host);
    }
    if text.eq_ignore_ascii_case("localhost") {
        return Err(Refusal::usage("in a VM, localhost is the VM itself")
            .hint("use 'host' for the loopback address of this host: --allow host:PORT"));
    }
    if let Some((address, prefix)) = text.split_once('/') {
        return parse_range(address, prefix).map(AllowTarget::Range);
    }
    if let Ok(first) = text.parse::<IpAddr>() {
        let prefix = if first.is_ipv4() { 32 } else { 128 };
        return Ok(AllowTarget::Range(AddressRange { first, prefix }));
    }
    if text == "*" {
        return Err(Refusal::usage("it means everything").hint("use --net egress instead"));
    }
    if text.contains(':') {
        return Err(Refusal::usage("it is not an IPv6 address").hint(FORMS));
    }
    let parse = |name: &str| {
        name.parse::<DnsName>().map_err(|refusal| Refusal {
            hint: refusal.hint.or_else(|| Some(FORMS.into())),
            ..refusal
        })
    };
    match text.strip_prefix("*.") {
        Some(parent) => parse(parent).map(AllowTarget::Below),
        None if text.contains('*') => {
            let refusal = Refusal::usage("'*' stands only for everything before a dot");
            Err(refusal.hint("such as *.example.org"))
        }
        None => parse(text).map(AllowTarget::Name),
    }
}

fn parse_range(address: &str, prefix: &str) -> Result<AddressRange, Refusal> {
    let Ok(first) = address.parse::<IpAddr>() else {
        let refusal = Refusal::usage(format!("{address:?} is not an address"));
        return Err(refusal.hint(FORMS));
    };
    let (least, most) = if first.is_ipv4() { (8, 32) } else { (16, 128) };
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let Some(prefix) = prefix.parse().ok().filter(|&prefix: &u8| digits && prefix <= most) else {
        return Err(Refusal::usage(format!("{prefix:?} is not a number of bits from 0 to {most}")));
    };
    if prefix < least {
        // It would contain this host, its networks and metadata services along with the internet.
        let refusal = Refusal::usage(format!("a network has at least {least} bits"));
        return Err(refusal.hint("use --net egress for the internet, and name private networks"));
    }
    let begin = masked(first, prefix);
    if begin != first {
        let refusal = Refusal::usage("the address has bits after the network's");
        return Err(refusal.hint(format!("did you mean {begin}/{prefix}, or only {first}?")));
    }
    Ok(AddressRange { first, prefix })
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target.to_string();
        match self.port {
            None => f.write_str(&target),
            Some(port) if target.contains(':') => write!(f, "[{target}]:{port}"),
            Some(port) => write!(f, "{target}:{port}"),
        }
    }
}

impl fmt::Display for AllowTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllowTarget::Name(name) => name.fmt(f),
            AllowTarget::Below(parent) => write!(f, "*.{parent}"),
            AllowTarget::Range(range) => range.fmt(f),
            AllowTarget::Host => f.write_str("host"),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.prefix) {
            (IpAddr::V4(address), 32) => address.fmt(f),
            (IpAddr::V6(address), 128) => address.fmt(f),
            (address, prefix) => write!(f, "{address}/{prefix}"),
        }
    }
}

impl TryFrom<String> for AllowRule {
    type Error = Refusal;

    fn try_from(text: String) -> Result<AllowRule, Refusal> {
        text.parse()
    }
}

impl From<AllowRule> for String {
    fn from(rule: AllowRule) -> String {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read_and_written_again() {
        for (text, again) in [
            ("example.org", "example.org"),
            ("Example.org.:443", "example.org:443"),
            ("*.example.org:443", "*.example.org:443"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:80", "192.0.2.7:80"),
            ("192.168.1.0/24:53", "192.168.1.0/24:53"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:DB8::1]:443", "[2001:db8::1]:443"),
            ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("host", "host"),
            ("host:3128", "host:3128"),
            ("_a._tcp.example.org", "_a._tcp.example.org"),
        ] {
            let rule: AllowRule = text.parse().unwrap();
            assert_eq!(rule.to_string(), again);
            assert_eq!(again.parse::<AllowRule>().unwrap(), rule);
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_reason_and_a_remedy() {
        for (text, why, hint) in [
            ("", "it is empty", "a rule is"),
            ("https://user@example.org:8080/x", "it is a URL", "\"example.org:8080\""),
            ("*", "everything", "--net egress"),
            ("a*.example.org", "before a dot", "*.example.org"),
            ("0.0.0.0/0", "at least 8 bits", "--net egress"),
            ("::/0", "at least 16 bits", "--net egress"),
            ("10.0.0.5/8", "bits after", "10.0.0.0/8"),
            ("example.org/24", "is not an address", "a rule is"),
            ("[2001:db8::1", "brackets", "[2001:db8::1]:443"),
            ("[example.org]:1", "brackets", "[2001:db8::1]:443"),
            ("localhost:80", "the VM itself", "--allow host:PORT"),
            ("10.0.0.300", "number", "four numbers"),
            ("2001:db8::g", "not an IPv6 address", "a rule is"),
            ("münchen.example", "ASCII", "xn--"),
        ] {
            let refusal = text.parse::<AllowRule>().unwrap_err();
            let found = refusal.hint.unwrap_or_default();
            assert!(refusal.message.contains(why), "{text:?}: {}", refusal.message);
            assert!(found.contains(hint), "{text:?}: {found}");
        }
        for text in
            ["a:0", "a:65536", "a:80-90", "a:", "a:+1", "a:http", "10.0.0.0/33", "10.0.0.0/+8"]
        {
            assert!(text.parse::<AllowRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_contains_only_its_own_family() {
        let range = |text: &str| match text.parse::<AllowRule>().unwrap().target {
            AllowTarget::Range(range) => range,
            other => panic!("{other:?}"),
        };
        let contains = |net: &str, address: &str| range(net).contains(address.parse().unwrap());
        assert!(contains("10.0.0.0/8", "10.255.255.255"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(!contains("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(contains("fd00::/16", "fd00::1"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back_as_the_same_rule(text in "\\PC{0,40}") {
            if let Ok(rule) = text.parse::<AllowRule>() {
                prop_assert_eq!(rule.to_string().parse::<AllowRule>().unwrap(), rule);
            }
        }

        #[test]
        fn text_of_a_rules_letters_too(text in "[a-c0-9.:/*\\[\\]_-]{0,24}") {
            if let Ok(rule) = text.parse::<AllowRule>() {
                prop_assert_eq!(rule.to_string().parse::<AllowRule>().unwrap(), rule);
            }
        }
    }
}
