//! Durations and sizes as people write them.

use std::time::Duration;

/// Reads `90s`, `5m`, `1h`, `5d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("'{text}' is no duration; write it as 30s, 5m, 1h or 5d");
    let (number, unit) = split(text).ok_or_else(problem)?;
    let seconds: u64 = match unit {
        "ms" => return number.parse().map(Duration::from_millis).map_err(|_| problem()),
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(problem()),
    };
    let number: u64 = number.parse().map_err(|_| problem())?;
    number.checked_mul(seconds).filter(|all| *all <= 3650 * 86_400).map(Duration::from_secs).ok_or_else(problem)
}

/// Reads `512MiB`, `1 GiB`, `20MB`, `4096`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let problem = || format!("'{text}' is no size; write it as 512MiB, 1GiB or 4096 (bytes)");
    let (number, unit) = split(text).ok_or_else(problem)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(problem()),
    };
    let number: u64 = number.parse().map_err(|_| problem())?;
    number.checked_mul(factor).ok_or_else(problem)
}

fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (!number.is_empty()).then(|| (number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("5d"), Ok(Duration::from_secs(432_000)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("1 GiB"), Ok(1 << 30));
        assert_eq!(size("20MB"), Ok(20_000_000));
        assert_eq!(size("4096"), Ok(4096));
    }

    #[test]
    fn what_is_neither_is_refused_with_an_example() {
        for bad in ["", "m", "5", "5 x", "-1m", "99999999999999999999d", "1.5h"] {
            assert!(duration(bad).is_err_and(|problem| problem.contains("5m")), "{bad}");
        }
        for bad in ["", "MiB", "-1", "5 cats", "99999999999999999999", "1.5GiB", "99999999999TiB"] {
            assert!(size(bad).is_err_and(|problem| problem.contains("MiB")), "{bad}");
        }
    }
}
