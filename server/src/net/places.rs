//! How many sockets are open, from which address.
//!
//! Invariant: a place is given back when it is dropped, whoever holds it then.

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bits of an IPv6 address that one customer of a provider is usually given.
const IPV6_PREFIX_BITS: u32 = 64;

/// Hands out places for sockets.
#[derive(Debug)]
pub(crate) struct Places {
    open: AtomicUsize,
    open_max: usize,
    by_address: DashMap<IpAddr, usize>,
    by_address_max: usize,
}

/// One socket's place.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// So many in all, and so many from one address.
    pub(crate) fn new(open_max: usize, by_address_max: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), open_max, by_address: DashMap::new(), by_address_max })
    }

    /// A place, unless the server or the address has as many as it may.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.open_max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut from_address = self.by_address.entry(address).or_insert(0);
        if *from_address >= self.by_address_max {
            drop(from_address);
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *from_address += 1;
        drop(from_address);
        metrics::gauge!(crate::metrics::CONNECTIONS).increment(1);
        Some(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.open.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!(crate::metrics::CONNECTIONS).decrement(1);
        if let Entry::Occupied(mut from_address) = self.places.by_address.entry(self.address) {
            *from_address.get_mut() -= 1;
            if *from_address.get() == 0 {
                from_address.remove();
            }
        }
    }
}

/// What counts as one address: all of IPv4, and the network part of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - IPV6_PREFIX_BITS))))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn places_are_counted_in_all_and_by_address_and_given_back() {
        let places = Places::new(3, 2);
        let one = places.take(address("192.0.2.1")).expect("room");
        let _two = places.take(address("::ffff:192.0.2.1")).expect("room");
        assert!(places.take(address("192.0.2.1")).is_none());
        let _other = places.take(address("2001:db8::1")).expect("room");
        assert!(places.take(address("192.0.2.2")).is_none());
        drop(one);
        let _again = places.take(address("2001:db8::ffff")).expect("room");
        assert!(places.take(address("192.0.2.1")).is_none());
        drop((_two, _other, _again));
        assert!(places.by_address.is_empty());
        assert_eq!(places.open.load(Ordering::Relaxed), 0);
    }
}
