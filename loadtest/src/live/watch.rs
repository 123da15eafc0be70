//! The processor and memory of what is watched: the servers by their process ids, this generator, the machine.

use std::time::Instant;

use anyhow::Result;

use super::outcome::Cores;
use crate::server;

/// Processor seconds at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processors {
    at: Instant,
    servers: Option<f64>,
    generator: f64,
    machine: f64,
}

impl Processors {
    /// Reads them now.
    pub(super) fn read(servers: &[u32]) -> Result<Self> {
        let mut used = None;
        for &pid in servers {
            *used.get_or_insert(0.0) += server::process_cpu_seconds(pid)?;
        }
        let (generator, machine) = (server::own_cpu_seconds()?, server::machine_cpu_seconds()?);
        Ok(Self { at: Instant::now(), servers: used, generator, machine })
    }

    /// Cores used since.
    pub(super) fn since(&self, before: &Self) -> Cores {
        let wall = (self.at - before.at).as_secs_f64().max(1e-6);
        let servers = self.servers.zip(before.servers).map(|(now, before)| now - before);
        let generator = self.generator - before.generator;
        let machine = self.machine - before.machine;
        let others = (machine - generator - servers.unwrap_or(0.0)).max(0.0);
        Cores { server: servers.map(|used| used / wall), generator: generator / wall, others: others / wall }
    }
}

/// Bytes resident in all of the servers; none where none is watched.
pub(super) fn resident_bytes(servers: &[u32]) -> Result<Option<u64>> {
    let mut bytes = None;
    for &pid in servers {
        *bytes.get_or_insert(0) += server::process_resident_bytes(pid)?;
    }
    Ok(bytes)
}
