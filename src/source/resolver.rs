//! Names to addresses, through the filter: what is dialled is what was checked.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{AddressPolicy, DeniedAddress};

/// Where names are looked up.
pub trait Lookup: Send + Sync + 'static {
    /// The addresses of `host`.
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

tokio::task_local! {
    /// The port that is dialled once the name is known: the client says only the name to its resolver.
    static PORT: u16;
}

/// `request` to `port`: its resolver judges addresses with it. What the client dials on its own later has none.
pub(super) fn to_port<F: Future>(port: u16, request: F) -> impl Future<Output = F::Output> {
    PORT.scope(port, request)
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

/// The filter in front of a [`Lookup`]. It hands out only addresses that the policy allows, and the client dials only what
/// is handed out: a name that changes its address between check and dial (DNS rebinding) gains nothing.
#[derive(Clone)]
pub(super) struct FilteredResolver {
    lookup: Arc<dyn Lookup>,
    policy: AddressPolicy,
    /// The operator's own proxy, whose address the operator vouches for.
    proxy_host: Option<String>,
}

/// No address of a host may be dialled. The first one stands for all.
#[derive(Debug, Clone)]
pub(super) struct DeniedHost {
    pub host: String,
    pub denied: DeniedAddress,
}

impl fmt::Display for DeniedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connect to {}: {}", self.host, self.denied)
    }
}

impl Error for DeniedHost {}

impl DeniedHost {
    /// The refusal that `error` was caused by, if any.
    pub fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(denied) = error.downcast_ref::<Self>() {
                return Some(denied);
            }
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match wrapped {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }
}

impl FilteredResolver {
    pub fn new(lookup: Arc<dyn Lookup>, policy: AddressPolicy, proxy_host: Option<String>) -> Self {
        Self { lookup, policy, proxy_host }
    }

    /// Refuse `host` if it is an address that may not be dialled at `port`: literals never reach a resolver.
    pub fn check_literal(&self, host: &url::Host<&str>, port: Option<u16>) -> Result<(), DeniedHost> {
        let address = match host {
            url::Host::Ipv4(v4) => IpAddr::V4(*v4),
            url::Host::Ipv6(v6) => IpAddr::V6(*v6),
            url::Host::Domain(_) => return Ok(()),
        };
        self.policy.check(address, port).map_err(|denied| DeniedHost { host: host.to_string(), denied })
    }

    /// Refuse `host` if it resolves here to nothing but denied addresses. Behind a proxy, which looks names up itself,
    /// this is all that can be known; a name that does not resolve here is the proxy's to judge.
    pub async fn check_name(&self, host: &str, port: Option<u16>) -> Result<(), DeniedHost> {
        match self.lookup.lookup(host.to_owned()).await {
            Ok(addresses) => self.filter(host, port, addresses).map(drop),
            Err(_) => Ok(()),
        }
    }

    fn filter(&self, host: &str, port: Option<u16>, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, DeniedHost> {
        let mut first_denied = None;
        let mut allowed = Vec::with_capacity(addresses.len());
        for address in addresses {
            match self.policy.check(address, port) {
                Ok(()) => allowed.push(address),
                Err(denied) => {
                    first_denied.get_or_insert(denied);
                }
            }
        }
        match first_denied {
            Some(denied) if allowed.is_empty() => Err(DeniedHost { host: host.to_owned(), denied }),
            _ => Ok(allowed),
        }
    }
}

impl Resolve for FilteredResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        let port = PORT.try_with(|port| *port).ok();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let addresses = this.lookup.lookup(host.clone()).await?;
            let addresses = if this.proxy_host.as_deref() == Some(host.as_str()) {
                addresses
            } else {
                this.filter(&host, port, addresses)?
            };
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(allow: &[&str]) -> FilteredResolver {
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        FilteredResolver::new(Arc::new(SystemLookup), AddressPolicy::new(allow, Vec::new()), None)
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn of_mixed_addresses_only_the_allowed_ones_are_handed_out() {
        let handed_out =
            resolver(&[]).filter("x.example", None, addresses(&["127.0.0.1", "1.1.1.1", "10.0.0.1"])).unwrap();
        assert_eq!(handed_out, addresses(&["1.1.1.1"]));
    }

    #[test]
    fn a_host_with_denied_addresses_alone_is_refused_by_name() {
        let denied = resolver(&[]).filter("x.example", None, addresses(&["169.254.169.254"])).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "connect to x.example: 169.254.169.254 is a cloud's metadata service, which is never allowed"
        );
    }

    #[test]
    fn a_refusal_is_found_below_other_errors() {
        let denied = resolver(&[]).filter("x.example", None, addresses(&["::1"])).unwrap_err();
        let wrapped = io::Error::other(io::Error::other(denied));
        assert_eq!(DeniedHost::within(&wrapped).unwrap().host, "x.example");
        assert!(DeniedHost::within(&io::Error::other("x")).is_none());
    }
}
