//! Times as people write them, in files and on the command line: `30s`, `5m`, `1h 30m`.

use std::time::Duration;

/// Reads a time. `like` are examples of one, for the message.
pub(super) fn parse(text: &str, like: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a time; write it as {like}"))
}

/// Reads a whole number of seconds, at least one. `most` is how many at the most, and how that is
/// written.
pub(super) fn whole_seconds(
    text: &str,
    (most, written): (u32, &str),
    like: &str,
) -> Result<u32, String> {
    let time = parse(text, like)?;
    let seconds = u32::try_from(time.as_secs()).ok().filter(|_| time.subsec_nanos() == 0);
    seconds
        .filter(|seconds| (1..=most).contains(seconds))
        .ok_or_else(|| format!("{text} is not a whole number of seconds from 1s to {written}"))
}

/// Seconds as they are written.
pub(super) fn text(seconds: u32) -> String {
    humantime::format_duration(Duration::from_secs(seconds.into())).to_string()
}
