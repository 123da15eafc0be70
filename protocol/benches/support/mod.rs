//! A typist, and the time that this thread has spent.

use bytes::Bytes;
use quire_protocol::lib0::{put_var_bytes, put_var_u64};
use std::time::Duration;

/// A typist who types at a distance from the last place after every run, so that the document consists of
/// many blocks.
pub(crate) struct Typist {
    client: u32,
    clock: u32,
    /// Letters in a row before the typist goes elsewhere, puts a letter in and takes one out.
    run: u32,
}

impl Typist {
    pub(crate) const fn new(client: u32, run: u32) -> Self {
        Self { client, clock: 0, run }
    }

    /// The next keystroke: mostly a letter after the last one, at times a deletion.
    pub(crate) fn keystroke(&mut self) -> Bytes {
        let mut out = Vec::with_capacity(24);
        if self.clock % self.run == self.run - 1 && self.clock > self.run {
            // One letter inside an older run, and a deletion there.
            let at = self.clock / self.run / 2 * self.run + 1;
            self.letter(&mut out, Some(at));
            out.extend([1]);
            put_var_u64(&mut out, self.client.into());
            out.extend([1]);
            put_var_u64(&mut out, (at + 1).into());
            out.extend([1]);
        } else {
            self.letter(&mut out, self.clock.checked_sub(1));
            out.extend([0]);
        }
        out.into()
    }

    fn letter(&mut self, out: &mut Vec<u8>, after: Option<u32>) {
        out.extend([1, 1]);
        put_var_u64(out, self.client.into());
        put_var_u64(out, self.clock.into());
        match after {
            Some(clock) => {
                out.push(0x84);
                put_var_u64(out, self.client.into());
                put_var_u64(out, clock.into());
            }
            None => {
                out.extend([0x04, 1]);
                put_var_bytes(out, b"content");
            }
        }
        put_var_bytes(out, b"a");
        self.clock += 1;
    }
}

/// Time that this thread has spent on a processor.
pub(crate) fn spent() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(spent).expect("a time since the thread began")
}
