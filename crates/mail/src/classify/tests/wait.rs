//! Times in texts.

use crate::classify::{row::fold, wait::told};

#[test]
fn a_time_to_wait_is_read_where_a_word_asks_to_wait() {
    let hour = 3600;
    let texts = [
        ("Try again in 30 minutes", Some(1800)),
        ("please try again after 300 seconds.", Some(300)),
        ("retry after 300 seconds", Some(300)),
        ("Too fast; wait 5m", Some(300)),
        ("please wait for 1 hour and 30 minutes", Some(hour + 1800)),
        ("wait at least 1h30m", Some(hour + 1800)),
        ("Try again later (in 2 hrs)", Some(2 * hour)),
        ("try again in an hour", Some(hour)),
        ("retry in 45 sec", Some(45)),
        ("Retry-After: 120", Some(120)),
        ("retry-after:120", Some(120)),
        ("retry_after=7", Some(7)),
        ("slow down, retry after 60, thanks", Some(60)),
        ("will be enabled in 3244 seconds", Some(3244)),
        ("quota resets in 2 days", Some(25 * hour)),
        ("try again in 10 minute(s)", Some(600)),
        // Nothing to wait for, or not to be told without a clock.
        ("available at 14:00", None),
        ("try again after 14:00", None),
        ("try again after Wed, 25 Nov 2026 10:00:00 GMT", None),
        ("retry after 3 attempts", None),
        ("retry 3 times", None),
        ("more than 100 messages in 60 minutes", None),
        ("limit: 30 per 1 minute", None),
        ("try again in a few minutes", None),
        ("try again tomorrow", None),
        ("try again in 5", None),
        ("try again in 0 seconds", None),
        ("try again in 99999999999999999999 seconds", None),
        ("try again in -5 minutes", None),
        ("try again in 5 parsecs", None),
        ("wait", None),
        ("retry-after:", None),
        ("", None),
        ("again ( [ : = 5", None),
        ("wait 5é", None),
    ];
    for (text, expected) in texts {
        assert_eq!(told(&fold(text)).map(|wait| wait.as_secs()), expected, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_odd_and_no_wait_too_long(text in "(again|wait|retry|after|in|[0-9]{1,8}|h|min|[ :=(.é\u{130}-]|\\PC){0,12}") {
        let wait = told(&fold(&text));
        proptest::prop_assert!(wait.is_none_or(|wait| !wait.is_zero() && wait.as_secs() <= 25 * 3600));
    }
}
