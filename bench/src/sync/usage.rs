//! What a process costs, as Linux tells it: processor time and memory.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks a second in `/proc`: a constant of Linux for programs, whatever the kernel's.
const TICKS_PER_SECOND: u64 = 100;
/// The step in which processor time is counted, in seconds.
pub const TICK_S: f64 = 1.0 / TICKS_PER_SECOND as f64;

/// A process that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// The process that asks.
    pub fn own() -> Process {
        Process(std::process::id())
    }

    /// Processor time of all its threads so far, in user and kernel; in steps of 10 ms.
    ///
    /// # Errors
    /// There is no such process, or no `/proc`.
    pub fn cpu(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The second field is a name in parentheses, which may hold blanks.
        let (_, fields) = stat.rsplit_once(')').context("a name in /proc/…/stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("stat")?.parse()?) };
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / TICKS_PER_SECOND))
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// As [`Process::cpu`].
    pub fn resident_bytes(self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// The most resident memory since the start, or since [`Process::forget_peak`], in bytes.
    ///
    /// # Errors
    /// As [`Process::cpu`].
    pub fn peak_bytes(self) -> Result<u64> {
        self.status_kib("VmHWM:")
    }

    /// Lets the peak begin anew.
    ///
    /// # Errors
    /// As [`Process::cpu`].
    pub fn forget_peak(self) -> Result<()> {
        std::fs::write(self.path("clear_refs"), "5").context("cannot reset the peak")
    }

    fn status_kib(self, name: &str) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()).context("status")?;
        Ok(kib.parse::<u64>()? << 10)
    }

    fn path(self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.0))
    }

    fn read(self, file: &str) -> Result<String> {
        let path = self.path(file);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}

/// Bytes as MiB with one digit.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
