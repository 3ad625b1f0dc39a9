//! Names of a directory's files (`docs/protocol.md`, "A directory").
//!
//! `20261125-183012-345-<delta>.ana`: when it was written (UTC, to the millisecond), and the
//! name of the delta in it. Names sort by time and never clash; readers rely on neither.

/// Folder of the deltas.
pub(crate) const CHANGES: &str = "changes";

/// The name of a file written at `now_ms` (Unix) that holds the delta named `delta`.
pub(crate) fn file_name(now_ms: u64, delta: &[u8; 16]) -> String {
    let hex: String = delta.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hex}.ana", stamp(now_ms))
}

/// `20261125-183012-345`; years have at least four digits.
fn stamp(now_ms: u64) -> String {
    let (days, ms) = (now_ms / 86_400_000, now_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{:03}", ms % 1000)
}

/// Year, month and day of a day since 1970 in the Gregorian calendar: years begin in March,
/// so that a leap day is a year's last, and 400 of them have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months of 31 and 30 days in turn have 153 days.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when() {
        for (ms, expected) in [
            (0, "19700101-000000-000"),
            (951_782_400_000, "20000229-000000-000"),
            (951_868_799_999, "20000229-235959-999"),
            (951_868_800_000, "20000301-000000-000"),
            (1_764_095_412_345, "20251125-183012-345"),
            (4_107_542_400_000, "21000301-000000-000"),
            (4_107_542_399_000, "21000228-235959-000"),
        ] {
            assert_eq!(stamp(ms), expected);
        }
        let name = file_name(0, &[0xab; 16]);
        assert_eq!(name, format!("19700101-000000-000-{}.ana", "ab".repeat(16)));
    }
}
