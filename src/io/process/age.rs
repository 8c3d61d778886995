//! For how long a process has been there, by a clock that nobody can set.

use std::time::Duration;

use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

/// Where the instant of the start is in `/proc/PID/stat`, behind the name: the 22nd word of all.
const START: usize = 19;

/// How long ago a process began; a sleep of the machine counts. `None` if the kernel does not tell,
/// or if there is no such process. Its number must mean nobody else meanwhile.
pub fn age(pid: Pid) -> Option<Duration> {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).ok()?;
    let began = began(&text, rustix::param::clock_ticks_per_second())?;
    let now = clock_gettime(ClockId::Boottime);
    let (secs, nanos) = (u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
    Some(Duration::new(secs, nanos).saturating_sub(began))
}

/// When a process began, since the machine did.
fn began(stat: &str, ticks: u64) -> Option<Duration> {
    // A name may hold anything, also blanks and brackets.
    let (_, words) = stat.rsplit_once(')')?;
    let began: u64 = words.split_ascii_whitespace().nth(START)?.parse().ok()?;
    let rest = (began % ticks.max(1)).saturating_mul(1_000_000_000) / ticks.max(1);
    Some(Duration::from_secs(began / ticks.max(1)) + Duration::from_nanos(rest))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use rustix::process::Pid;

    use super::{age, began};

    #[test]
    fn a_name_does_not_matter() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 4250 9 9";
        assert_eq!(began(stat, 100), Some(Duration::from_millis(42_500)));
        assert_eq!(began("7 (a) S 1", 100), None);
    }

    #[test]
    fn a_process_is_as_old_as_it_is() {
        let before = Instant::now();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let own = age(rustix::process::getpid()).unwrap();
        let told = age(pid).unwrap();
        let most = before.elapsed();
        child.kill().unwrap();
        child.wait().unwrap();
        // The kernel counts in hundredths of a second.
        let tick = Duration::from_millis(20);
        assert!(told <= most + tick, "{told:?}, at most {most:?}");
        assert!(own + tick >= told, "we are older than our child");
        assert_eq!(age(pid), None);
    }
}
