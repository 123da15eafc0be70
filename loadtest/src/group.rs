//! A program and all that it starts, as one process group: ended together, and only by its own number.
//!
//! A server may be started by a wrapper, and a wrapper that is killed leaves its server behind.
//!
//! Invariant: a signal goes to the group only while its first process has not been waited for, so the number
//! cannot have become somebody else's.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How often it is looked whether the program has ended.
const LOOK: Duration = Duration::from_millis(10);

/// A started program; what is left of it is killed when this is dropped.
#[derive(Debug)]
pub struct Group {
    child: Child,
    pid: Pid,
    ended: Option<ExitStatus>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// By itself, before it was asked to.
    Before(ExitStatus),
    /// When it was asked to.
    Asked(ExitStatus),
    /// It did not, and was killed.
    Killed,
}

impl Group {
    /// Starts a program in a group of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
        Ok(Self { child, pid, ended: None })
    }

    /// The number of the program's process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the program ended, if it has; what it left running is killed then.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn try_end(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() && self.has_ended()? {
            self.end()?;
        }
        Ok(self.ended)
    }

    /// Asks all of the group to end, waits for the program until the limit, and kills what is left.
    ///
    /// # Errors
    /// When the system does not tell how it ended.
    pub fn stop(mut self, limit: Duration) -> io::Result<Stopped> {
        if let Some(status) = self.try_end()? {
            return Ok(Stopped::Before(status));
        }
        let _ = kill_process_group(self.pid, Signal::TERM);
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.try_end()? {
                return Ok(Stopped::Asked(status));
            }
            std::thread::sleep(LOOK);
        }
        self.end()?;
        Ok(Stopped::Killed)
    }

    /// Whether the program has ended; it is not waited for, so its number stays its own.
    fn has_ended(&self) -> io::Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), look)?.is_some())
    }

    fn end(&mut self) -> io::Result<()> {
        if self.ended.is_none() {
            let _ = kill_process_group(self.pid, Signal::KILL);
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A shell that starts a process that waits, and says its number in a file.
    fn shell(first: &str, then: &str, told: &Path) -> Group {
        let script =
            format!("{first}\nsleep 1000 & echo $! > {0}.new; mv {0}.new {0}; {then}", told.display());
        let group = Group::spawn(Command::new("sh").args(["-c", &script])).unwrap();
        wait_until(|| told.exists());
        group
    }

    fn wait_until(mut is: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !is() {
            assert!(Instant::now() < until);
            std::thread::sleep(LOOK);
        }
    }

    fn is_running(told: &Path) -> bool {
        let pid = std::fs::read_to_string(told).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
    }

    #[test]
    fn what_a_program_started_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("pid");
        let group = shell("", "wait", &told);
        assert!(is_running(&told));
        assert!(matches!(group.stop(Duration::from_secs(30)).unwrap(), Stopped::Asked(_)));
        wait_until(|| !is_running(&told));
    }

    #[test]
    fn one_that_ended_before_leaves_nothing_either() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("pid");
        let mut group = shell("", "exit 3", &told);
        wait_until(|| group.try_end().unwrap().is_some());
        wait_until(|| !is_running(&told));
        let stopped = group.stop(Duration::ZERO).unwrap();
        assert!(matches!(stopped, Stopped::Before(status) if status.code() == Some(3)));
    }

    #[test]
    fn one_that_does_not_listen_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("pid");
        let group = shell("trap '' TERM", "while :; do wait; done", &told);
        assert_eq!(group.stop(Duration::from_millis(100)).unwrap(), Stopped::Killed);
        wait_until(|| !is_running(&told));
    }
}
