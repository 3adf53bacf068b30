//! Which addresses may be dialled: the filter against requests forged through a URL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;

/// Which addresses a fetch may connect to.
///
/// Everything that is not global unicast is denied: the ranges of the IANA special-purpose address registries
/// (RFC 6890 and its successors). `allow` opens denied ranges; nothing opens the API server, the metadata services,
/// multicast or the unspecified addresses.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    allow: Vec<IpNet>,
    /// Shared by all clones: what is read of it later counts for whoever fetches already.
    api_server: Arc<RwLock<Vec<SocketAddr>>>,
}

/// An address that may not be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {kind}")]
pub struct DeniedAddress {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub kind: AddressKind,
}

/// What a denied address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressKind {
    /// `169.254.169.254`, `fd00:ec2::254` and the like: hands out the machine's credentials.
    #[error("a cloud's metadata service, which is never allowed")]
    Metadata,
    /// Where the cluster's API server listens.
    #[error("an address of the cluster's API server, which is never allowed")]
    ApiServer,
    /// `0.0.0.0/8`, `::`: reaches the machine itself.
    #[error("an unspecified address, which is never allowed")]
    Unspecified,
    /// Multicast or broadcast.
    #[error("a multicast or broadcast address, which is never allowed")]
    Multicast,
    /// `127.0.0.0/8`, `::1`.
    #[error("a loopback address; an administrator can allow its range")]
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`.
    #[error("a link-local address; an administrator can allow its range")]
    LinkLocal,
    /// RFC 1918, RFC 4193 and the deprecated site-local range.
    #[error("a private address; an administrator can allow its range")]
    Private,
    /// `100.64.0.0/10` (RFC 6598).
    #[error("an address of carrier-grade NAT; an administrator can allow its range")]
    SharedNat,
    /// Documentation, benchmarking, reserved and tunnelling ranges.
    #[error("a reserved address; an administrator can allow its range")]
    Reserved,
}

impl AddressKind {
    fn can_be_allowed(self) -> bool {
        !matches!(self, Self::Metadata | Self::ApiServer | Self::Unspecified | Self::Multicast)
    }
}

impl AddressPolicy {
    /// The default policy, with the ranges in `allow` opened. Where the API server listens stays closed whatever `allow`
    /// says; other ports of its addresses, such as those of a node that serves more, are judged as any.
    pub fn new(allow: Vec<IpNet>, api_server: Vec<SocketAddr>) -> Self {
        Self { allow, api_server: Arc::new(RwLock::new(api_server)) }
    }

    /// Close these addresses of the API server from now on, in place of those that were known, for all clones of this policy.
    pub fn close(&self, api_server: Vec<SocketAddr>) {
        *self.api_server.write().unwrap_or_else(PoisonError::into_inner) = api_server;
    }

    /// Whether `port` of `address` may be dialled; without a port, whether every port may. An IPv4 address within an IPv6
    /// one is judged as itself.
    ///
    /// # Errors
    /// [`DeniedAddress`], which says what kind of address it is.
    pub fn check(&self, address: IpAddr, port: Option<u16>) -> Result<(), DeniedAddress> {
        let canonical = address.to_canonical();
        let denied = |kind| Err(DeniedAddress { address, kind });
        let is_closed = |closed: &SocketAddr| {
            closed.ip().to_canonical() == canonical && port.is_none_or(|port| port == closed.port())
        };
        if self.api_server.read().unwrap_or_else(PoisonError::into_inner).iter().any(is_closed) {
            return denied(AddressKind::ApiServer);
        }
        if let IpAddr::V6(v6) = canonical
            && let Some(embedded) = embedded_v4(v6)
        {
            return self.check(IpAddr::V4(embedded), port).or_else(|inner| denied(inner.kind));
        }
        if let IpAddr::V6(v6) = canonical
            && let Some(translated) = translated_v4(v6)
            && let Err(inner) = self.check(IpAddr::V4(translated), port)
            && matches!(inner.kind, AddressKind::Metadata | AddressKind::ApiServer)
        {
            return denied(inner.kind);
        }
        match special_kind(canonical) {
            None => Ok(()),
            Some(kind) if kind.can_be_allowed() && self.allow.iter().any(|net| net.contains(&canonical)) => Ok(()),
            Some(kind) => denied(kind),
        }
    }
}

/// The IPv4 address that a translator or tunnel would take out of `address`: NAT64 (RFC 6052), 6to4 (RFC 3056) and the
/// deprecated IPv4-compatible form.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let low = Ipv4Addr::from((u32::from(g) << 16) | u32::from(h));
    match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] => Some(low),
        [0, 0, 0, 0, 0, 0] if u32::from(low) > 1 => Some(low),
        [0x2002, ..] => Some(Ipv4Addr::from((u32::from(b) << 16) | u32::from(c))),
        _ => None,
    }
}

/// The IPv4 address that a network's own translator may take out of `address`: local NAT64 (RFC 8215), in its usual form, and
/// stateless translation (RFC 7915). An administrator can open these ranges, but not what is never allowed behind them.
fn translated_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let is_translated = matches!([a, b, c], [0x64, 0xff9b, 1]) || matches!([a, b, c, d, e, f], [0, 0, 0, 0, 0xffff, 0]);
    is_translated.then(|| Ipv4Addr::from((u32::from(g) << 16) | u32::from(h)))
}

fn special_kind(address: IpAddr) -> Option<AddressKind> {
    match address {
        IpAddr::V4(v4) => special_kind_v4(v4),
        IpAddr::V6(v6) => special_kind_v6(v6),
    }
}

fn special_kind_v4(address: Ipv4Addr) -> Option<AddressKind> {
    use AddressKind::*;
    Some(match address.octets() {
        // Most clouds; Amazon's credentials for tasks and for pods; Tencent; Scaleway.
        [169, 254, 169, 254] | [169, 254, 170, 2 | 23] | [169, 254, 0, 23] | [169, 254, 42, 42] => Metadata,
        // Azure's WireServer, which is at a public address; Alibaba; Oracle.
        [168, 63, 129, 16] | [100, 100, 100, 200] | [192, 0, 0, 192] => Metadata,
        [0, ..] => Unspecified,
        [224..=239, ..] | [255, 255, 255, 255] => Multicast,
        [127, ..] => Loopback,
        [169, 254, ..] => LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Private,
        [100, 64..=127, ..] => SharedNat,
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => Reserved,
        [240..=255, ..] => Reserved,
        _ => return None,
    })
}

fn special_kind_v6(address: Ipv6Addr) -> Option<AddressKind> {
    use AddressKind::*;
    if address.is_unspecified() {
        return Some(Unspecified);
    }
    if address.is_loopback() {
        return Some(Loopback);
    }
    Some(match address.segments() {
        // Amazon's, for machines and for pods; Google's; Scaleway's; OpenStack's.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x23] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Metadata,
        [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] | [0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe] => Metadata,
        [0xff00..=0xffff, ..] => Multicast,
        [0xfe80..=0xfebf, ..] => LinkLocal,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Private,
        // Global unicast is 2000::/3 alone; of it, 2001::/23 (Teredo and others) and the documentation ranges are not.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Reserved,
        [0x2000..=0x3fff, ..] => return None,
        _ => Reserved,
    })
}

#[cfg(test)]
mod tests {
    use super::AddressKind::*;
    use super::*;

    fn kind(policy: &AddressPolicy, address: &str) -> Option<AddressKind> {
        policy.check(address.parse().unwrap(), Some(443)).err().map(|denied| denied.kind)
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn public_addresses_are_allowed() {
        let policy = AddressPolicy::default();
        for address in ["140.82.112.3", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.0.1", "100.128.0.1"] {
            assert_eq!(kind(&policy, address), None, "{address}");
        }
        for address in
            ["2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888", "64:ff9b::8c52:7003", "::ffff:1.1.1.1"]
        {
            assert_eq!(kind(&policy, address), None, "{address}");
        }
    }

    #[test]
    fn each_special_range_is_denied_up_to_its_edges() {
        let policy = AddressPolicy::default();
        for (address, expected) in [
            ("169.254.169.254", Metadata),
            ("169.254.170.2", Metadata),
            ("169.254.170.23", Metadata),
            ("169.254.0.23", Metadata),
            ("169.254.42.42", Metadata),
            ("168.63.129.16", Metadata),
            ("100.100.100.200", Metadata),
            ("192.0.0.192", Metadata),
            ("fd00:ec2::254", Metadata),
            ("fd00:ec2::23", Metadata),
            ("fd20:ce::254", Metadata),
            ("fd00:42::42", Metadata),
            ("fe80::a9fe:a9fe", Metadata),
            ("0.0.0.0", Unspecified),
            ("0.1.2.3", Unspecified),
            ("::", Unspecified),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("255.255.255.255", Multicast),
            ("ff02::1", Multicast),
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("::1", Loopback),
            ("169.254.0.1", LinkLocal),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("10.0.0.1", Private),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.168.1.1", Private),
            ("fc00::1", Private),
            ("fdff::1", Private),
            ("fec0::1", Private),
            ("100.64.0.1", SharedNat),
            ("100.127.255.255", SharedNat),
            ("192.0.2.1", Reserved),
            ("198.18.0.1", Reserved),
            ("198.51.100.1", Reserved),
            ("203.0.113.1", Reserved),
            ("240.0.0.1", Reserved),
            ("2001::1", Reserved),
            ("2001:db8::1", Reserved),
            ("100::1", Reserved),
            ("64:ff9b:1::1", Reserved),
        ] {
            assert_eq!(kind(&policy, address), Some(expected), "{address}");
        }
    }

    #[test]
    fn an_ipv4_address_within_an_ipv6_one_is_judged_as_itself() {
        let policy = AddressPolicy::default();
        for address in ["::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"] {
            assert_eq!(kind(&policy, address), Some(Loopback), "{address}");
        }
        for address in ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "64:ff9b::168.63.129.16"] {
            assert_eq!(kind(&policy, address), Some(Metadata), "{address}");
        }
        let open = AddressPolicy::new(nets(&["10.0.0.0/8"]), Vec::new());
        assert_eq!(kind(&open, "::ffff:10.1.2.3"), None);
    }

    #[test]
    fn an_allowed_range_opens_itself_and_nothing_else() {
        let policy = AddressPolicy::new(nets(&["10.1.0.0/16", "fd12::/16"]), Vec::new());
        assert_eq!(kind(&policy, "10.1.2.3"), None);
        assert_eq!(kind(&policy, "fd12::5"), None);
        assert_eq!(kind(&policy, "10.2.0.1"), Some(Private));
        assert_eq!(kind(&policy, "127.0.0.1"), Some(Loopback));
    }

    #[test]
    fn the_api_server_stays_closed_within_an_allowed_range_and_at_a_public_address() {
        let api_server = ["10.96.0.1:443", "34.1.2.3:443"].map(|address| address.parse().unwrap());
        let policy = AddressPolicy::new(nets(&["10.0.0.0/8"]), api_server.to_vec());
        for address in ["10.96.0.1", "::ffff:10.96.0.1", "64:ff9b::10.96.0.1", "34.1.2.3"] {
            assert_eq!(kind(&policy, address), Some(ApiServer), "{address}");
        }
        assert_eq!(kind(&policy, "10.96.0.2"), None);
    }

    #[test]
    fn another_server_at_the_api_servers_address_can_be_reached() {
        let policy = AddressPolicy::new(nets(&["10.0.0.0/8"]), vec!["10.0.0.5:6443".parse().unwrap()]);
        let check = |port| policy.check("10.0.0.5".parse().unwrap(), port).map_err(|denied| denied.kind);
        assert_eq!(check(Some(443)), Ok(()));
        assert_eq!(check(Some(6443)), Err(ApiServer));
        assert_eq!(check(None), Err(ApiServer), "a port that is not known may be that one");
    }

    #[test]
    fn nothing_opens_the_metadata_service_multicast_or_the_unspecified_address() {
        let policy = AddressPolicy::new(nets(&["0.0.0.0/0", "::/0"]), Vec::new());
        for address in [
            "169.254.169.254",
            "169.254.170.23",
            "fd00:ec2::254",
            "fe80::a9fe:a9fe",
            "64:ff9b:1::169.254.169.254",
            "::ffff:0:168.63.129.16",
        ] {
            assert_eq!(kind(&policy, address), Some(Metadata), "{address}");
        }
        assert_eq!(kind(&policy, "64:ff9b:1::10.0.0.1"), None);
        assert_eq!(kind(&policy, "0.0.0.0"), Some(Unspecified));
        assert_eq!(kind(&policy, "ff02::1"), Some(Multicast));
        assert_eq!(kind(&policy, "169.254.1.1"), None);
    }

    #[test]
    fn the_message_says_what_the_address_is_and_who_can_allow_it() {
        let denied = AddressPolicy::default().check("10.0.0.7".parse().unwrap(), None).unwrap_err();
        assert_eq!(denied.to_string(), "10.0.0.7 is a private address; an administrator can allow its range");
    }
}
