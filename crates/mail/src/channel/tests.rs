#![allow(clippy::unwrap_used)]
use super::*;

const NOW: Timestamp = Timestamp(1_000_000);
const LATER: Timestamp = Timestamp(2_000_000);

fn refused() -> ChannelMove {
    ChannelMove::LoginRefused { confirm_at: LATER, reason: "535 5.7.8 no".into(), revision: 7 }
}

fn failed() -> ChannelMove {
    ChannelMove::OpenFailed { until: LATER, reason: "no answer".into() }
}

fn moves() -> [ChannelMove; 11] {
    let pause = ChannelMove::Pause { by: "ana@example.com".into() };
    let (resume, disable, enable) = (ChannelMove::Resume, ChannelMove::Disable, ChannelMove::Enable);
    let limit = ChannelMove::Throttled { until: LATER, reason: "452 quota".into() };
    let attention = ChannelMove::Attention { reason: "550 blocked".into(), revision: 7 };
    let changed = ChannelMove::Changed { other_account: false };
    [ChannelMove::Opened, failed(), refused(), limit, attention, ChannelMove::Accepted, changed, pause, resume, disable, enable]
}

fn states() -> [ChannelState; 8] {
    [
        ChannelState::Unverified,
        ChannelState::Active,
        ChannelState::Paused { by: "ana@example.com".into() },
        ChannelState::Throttled { until: LATER, reason: "450 slow down".into(), replies: 1 },
        ChannelState::Unreachable { until: LATER, failures: 3, reason: "no answer".into() },
        ChannelState::LoginRefused { until: LATER, reason: "535 5.7.8 no".into() },
        ChannelState::NeedsAttention { reason: "535 5.7.8 no".into(), revision: 7 },
        ChannelState::Disabled,
    ]
}

/// What the state is called here; the outside does not tell a refused login from an unreachable host.
fn name(state: &ChannelState) -> &'static str {
    match state {
        ChannelState::LoginRefused { .. } => "login_refused",
        other => other.name(),
    }
}

#[test]
fn the_moves_are_those_of_the_table_and_no_others() {
    let table = "
        state            opened  open_failed    login_refused    limit      attention        accepted  changed     pause   resume      disable   enable
        unverified       active  unreachable    login_refused    throttled  needs_attention  active    -           paused  -           disabled  -
        active           -       unreachable    login_refused    throttled  needs_attention  -         unverified  paused  -           disabled  -
        paused           -       -              -                -          -                -         -           paused  unverified  disabled  -
        throttled        -       throttled      login_refused    throttled  needs_attention  active    -           paused  unverified  disabled  -
        unreachable      active  unreachable    login_refused    throttled  needs_attention  active    unverified  paused  unverified  disabled  -
        login_refused    active  login_refused  needs_attention  login_refused  needs_attention  -     unverified  paused  unverified  disabled  -
        needs_attention  -       -              -                -          -                -         unverified  paused  unverified  disabled  -
        disabled         -       -              -                -          -                -         -           -       -           -         unverified";
    let rows: Vec<Vec<&str>> = table.lines().skip(2).map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), states().len());
    for (state, row) in states().iter().zip(rows) {
        assert_eq!(name(state), row[0]);
        for (what, expected) in moves().into_iter().zip(&row[1..]) {
            let after = state.after(what.clone());
            assert_eq!(after.as_ref().map_or("-", name), *expected, "{state:?} {what:?}");
        }
    }
}

#[test]
fn a_login_refused_twice_needs_attention_and_says_why() {
    let once = ChannelState::Active.after(refused()).unwrap();
    assert_eq!((once.name(), once.open_at(NOW), once.open_at(LATER)), ("confirming", Err(Some(LATER)), Ok(())));
    let twice = once.after(refused()).unwrap();
    assert_eq!(twice, ChannelState::NeedsAttention { reason: "535 5.7.8 no".into(), revision: 7 });
    assert_eq!((twice.open_at(Timestamp(i64::MAX)), twice.reason()), (Err(None), "535 5.7.8 no"));
}

#[test]
fn a_login_that_works_again_clears_the_refusal() {
    let once = ChannelState::Active.after(refused()).unwrap();
    let works = once.after(ChannelMove::Opened).unwrap();
    assert_eq!(works, ChannelState::Active);
    assert_eq!(works.after(refused()).unwrap().name(), "confirming");
}

#[test]
fn what_an_older_session_is_told_neither_clears_nor_forgets_a_refused_login() {
    let once = ChannelState::Active.after(refused()).unwrap();
    assert_eq!(once.after(ChannelMove::Accepted), None);
    let limited = once.after(ChannelMove::Throttled { until: Timestamp(LATER.0 + 1), reason: "450 slow down".into() }).unwrap();
    assert_eq!((limited.reason(), limited.open_at(LATER)), ("535 5.7.8 no", Err(Some(Timestamp(LATER.0 + 1)))));
    assert_eq!(limited.after(refused()).unwrap().name(), "needs_attention");
}

#[test]
fn trouble_with_the_host_between_two_refusals_does_not_forget_the_first() {
    let once = ChannelState::Unverified.after(refused()).unwrap();
    let broken = once.after(failed()).unwrap();
    assert_eq!(broken.reason(), "535 5.7.8 no");
    assert_eq!(broken.after(refused()).unwrap().name(), "needs_attention");
}

#[test]
fn a_changed_row_clears_what_the_old_one_taught_and_a_limit_only_with_the_account() {
    for (state, other_account) in states().into_iter().flat_map(|state| [(state.clone(), false), (state, true)]) {
        let after = state.after(ChannelMove::Changed { other_account });
        let kept = match state {
            ChannelState::Unverified | ChannelState::Paused { .. } | ChannelState::Disabled => true,
            ChannelState::Throttled { .. } => !other_account,
            _ => false,
        };
        assert_eq!(after, (!kept).then_some(ChannelState::Unverified), "{state:?} {other_account}");
    }
}

#[test]
fn failures_in_a_row_are_counted() {
    let mut state = ChannelState::Active;
    for expected in 1..=3 {
        state = state.after(failed()).unwrap();
        assert!(matches!(state, ChannelState::Unreachable { failures, .. } if failures == expected));
    }
}

#[test]
fn nothing_that_happens_by_itself_ends_what_a_person_decided() {
    for state in states().into_iter().filter(|state| matches!(name(state), "paused" | "disabled" | "needs_attention")) {
        for what in [ChannelMove::Opened, failed(), refused()] {
            assert_eq!(state.after(what.clone()), None, "{state:?} {what:?}");
        }
        assert_eq!(state.open_at(Timestamp(i64::MAX)), Err(None));
    }
}

#[test]
fn only_an_active_channel_opens_several_sessions_at_once() {
    for state in states() {
        assert_eq!(state.is_probing(), state != ChannelState::Active, "{state:?}");
    }
}

#[test]
fn a_limit_parks_until_a_message_is_accepted_and_an_open_session_alone_proves_nothing() {
    let limit = |until| ChannelMove::Throttled { until, reason: "452 quota".into() };
    let once = ChannelState::Active.after(limit(LATER)).unwrap();
    assert_eq!(once.open_at(Timestamp(0)), Err(Some(LATER)));
    assert!(once.is_probing());
    assert_eq!(once.after(ChannelMove::Opened), None);
    let twice = once.after(limit(Timestamp(LATER.0 + 1))).unwrap();
    assert!(matches!(twice, ChannelState::Throttled { replies: 2, .. }), "{twice:?}");
    assert!(matches!(twice.after(failed()).unwrap(), ChannelState::Throttled { replies: 2, .. }), "trouble keeps the probe owed");
    assert_eq!(twice.after(ChannelMove::Accepted), Some(ChannelState::Active));
}

#[test]
fn further_replies_of_a_burst_put_the_next_try_off_and_count_nothing() {
    let later = Timestamp(LATER.0 + 60_000);
    let limit = |until| ChannelMove::Throttled { until, reason: "452 quota".into() };
    let again = ChannelMove::LoginRefused { confirm_at: later, reason: "530 5.7.0 sign in".into(), revision: 7 };
    for (first, echo) in [
        (limit(LATER), limit(later)),
        (failed(), ChannelMove::OpenFailed { until: later, reason: "421 go away".into() }),
        (refused(), again),
    ] {
        let once = ChannelState::Active.after(first.clone()).unwrap();
        assert_eq!(once.after_echo(first), None);
        let put_off = once.after_echo(echo).unwrap();
        assert_eq!((put_off.reason(), put_off.open_at(LATER)), (once.reason(), Err(Some(later))));
        let counts = |state: &ChannelState| match state {
            ChannelState::Throttled { replies: count, .. } | ChannelState::Unreachable { failures: count, .. } => *count,
            _ => 0,
        };
        assert_eq!((counts(&put_off), name(&put_off)), (counts(&once), name(&once)));
        assert_eq!(once.after_echo(ChannelMove::Accepted), None, "{once:?}");
    }
}

#[test]
fn a_burst_tells_what_is_new() {
    let attention = ChannelMove::Attention { reason: "550 blocked".into(), revision: 7 };
    for state in states() {
        assert_eq!(state.after_echo(attention.clone()), state.after(attention.clone()));
        assert_eq!(state.after_echo(ChannelMove::Resume), state.after(ChannelMove::Resume));
    }
    let limit = ChannelMove::Throttled { until: LATER, reason: "452 quota".into() };
    let unreachable = ChannelState::Active.after(failed()).unwrap();
    assert_eq!(unreachable.after_echo(limit.clone()), unreachable.after(limit));
}
