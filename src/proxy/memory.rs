//! What the process takes up, as the system counts it.

/// Memory that is resident, bytes; 0 where the system does not say. Costs a read of a small file.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    bytes_of(&status, "VmRSS:").unwrap_or(0)
}

/// The value of one line of a file such as `/proc/meminfo`.
fn bytes_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib = line.trim().trim_end_matches("kB").trim();
    kib.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The memory of the machine, bytes; 0 where the system does not say.
pub(crate) fn total() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    bytes_of(&text, "MemTotal:").unwrap_or(0)
}

/// The system, its release and the processor, as `uname` writes them.
pub(crate) fn system_name() -> String {
    let of = |what: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{what}")).ok()?;
        Some(text.trim().to_owned())
    };
    let os = of("ostype").unwrap_or_else(|| std::env::consts::OS.to_owned());
    let release = of("osrelease").unwrap_or_default();
    format!("{os} {release} {}", std::env::consts::ARCH)
}

/// The time that the process has used, seconds: in user mode and in the system.
pub(crate) fn cpu_s() -> (f64, f64) {
    // Clock ticks are hundredths of a second on every Linux that user programs see.
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is in parentheses and may have blanks; utime is the 14th, stime the 15th.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let tick = |at| {
        fields
            .split_whitespace()
            .nth(at)
            .and_then(|t| t.parse::<f64>().ok())
    };
    let seconds = |at| tick(at).unwrap_or(0.0) / TICKS_PER_S;
    (seconds(11), seconds(12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_up_something() {
        assert!(1 << 16 < resident_bytes() && resident_bytes() < total());
        assert!(system_name().ends_with(std::env::consts::ARCH));
        let (user, system) = cpu_s();
        assert!(0.0 <= user && 0.0 <= system && user + system < 1e6);
    }
}
