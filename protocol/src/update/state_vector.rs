//! Yjs state vectors: per client, how many units are known. Blind to deletions.

use super::limits::CLOCK_MAX;
use super::scan::Scan;
use super::{ClientId, Refusal};
use crate::lib0::put_var_u64;
use std::collections::BTreeMap;

/// How many clients a state vector from outside may name: more than any document has, few enough to hold.
pub const STATE_VECTOR_CLIENTS_MAX: usize = 1 << 20;

/// The fewest bytes of an entry.
const ENTRY_BYTES_MIN: usize = 2;

/// Per client, the first clock that is not known. Clients at clock 0 are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateVector(BTreeMap<ClientId, u32>);

impl StateVector {
    /// Decodes a state vector from outside.
    ///
    /// # Errors
    /// When it is not exactly what Yjs writes or too large.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut scan = Scan::new(bytes);
        let count = scan.count(ENTRY_BYTES_MIN)?;
        if count > STATE_VECTOR_CLIENTS_MAX {
            return Err(Refusal::TooMany("clients"));
        }
        let mut clocks = BTreeMap::new();
        for _ in 0..count {
            let client = u32::try_from(scan.uint()?).map(ClientId).map_err(|_| Refusal::ClientId)?;
            let clock = scan.u32()?;
            if clock > CLOCK_MAX {
                return Err(Refusal::Clock);
            }
            if clocks.insert(client, clock).is_some() {
                return Err(Refusal::ClientTwice);
            }
        }
        scan.finish()?;
        clocks.retain(|_, clock| *clock > 0);
        Ok(Self(clocks))
    }

    /// The encoding, clients in falling order as Yjs writes them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.0.len() * 8);
        put_var_u64(&mut out, self.0.len() as u64);
        for (client, &clock) in self.0.iter().rev() {
            put_var_u64(&mut out, client.0.into());
            put_var_u64(&mut out, clock.into());
        }
        out
    }

    /// The first clock of a client that is not known.
    #[must_use]
    pub fn get(&self, client: ClientId) -> u32 {
        self.0.get(&client).copied().unwrap_or(0)
    }

    /// Sets a client's clock.
    pub fn set(&mut self, client: ClientId, clock: u32) {
        if clock == 0 {
            self.0.remove(&client);
        } else {
            self.0.insert(client, clock);
        }
    }

    /// The clients and their clocks, clients in rising order.
    pub fn iter(&self) -> impl Iterator<Item = (ClientId, u32)> + '_ {
        self.0.iter().map(|(&client, &clock)| (client, clock))
    }

    /// True when no unit of any client is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(ClientId, u32)> for StateVector {
    fn from_iter<I: IntoIterator<Item = (ClientId, u32)>>(clocks: I) -> Self {
        Self(clocks.into_iter().filter(|&(_, clock)| clock > 0).collect())
    }
}
