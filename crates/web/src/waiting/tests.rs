#![allow(clippy::unwrap_used)]
use super::*;
use crate::gateway::{FullFrom, LimitUse};
use mail::pace::{LearnedPace, Lessons};

const NOW: Timestamp = Timestamp(1_000_000);
const CLOCKS: Clocks = Clocks { wall: NOW, steady: NOW };

fn recipient(state: RecipientState, due: Option<i64>, doubts: u32) -> RecipientView {
    RecipientView {
        index: 0,
        address: "luis@example.org".into(),
        state,
        since: NOW,
        attempts: 1,
        doubts,
        due: due.map(Timestamp),
        said: "450 4.2.2 mailbox full".into(),
        relay: String::new(),
    }
}

fn queued(due: i64) -> RecipientView {
    recipient(RecipientState::Queued, Some(due), 0)
}

fn mail(lane: Lane, starts: Option<i64>) -> Mail<'static> {
    let ahead = Ahead { transactions: 13, recipients: 13, bytes: 13_000 };
    let place = Some(Place { ahead, starts: starts.map(Timestamp) });
    Mail { person: PersonId(1), author: "ana@example.com", reverse_path: "", lane, place, scheduled_at: None, expires_at: None }
}

fn way(state: ChannelState) -> Way {
    Way { name: "sales".into(), outlook: Outlook { state, ..Outlook::default() }, clocks: CLOCKS, words: true }
}

fn limit(text: &str) -> Limit {
    mail::limits::Limits::parse(&[text]).unwrap().windows[0]
}

/// A channel whose `lane` waits for this limit.
fn limited(text: &str, used: u64, learned: bool, lane: Lane) -> Way {
    let limit = limit(text);
    let mut way = way(ChannelState::Active);
    way.outlook.limits = vec![LimitUse { limit, used, frees_at: Some(Timestamp(1_030_000)), learned }];
    way.outlook.lanes[lane as usize] = Some(LaneWait { until: Some(Timestamp(1_030_000)), why: Why::Limit(limit) });
    way
}

fn reason(recipient: &RecipientView, mail: &Mail<'_>, way: &Way) -> WaitingOn {
    of_recipient(recipient, mail, way).unwrap()
}

fn unreachable(until: i64) -> ChannelState {
    ChannelState::Unreachable { until: Timestamp(until), failures: 2, reason: "connection refused".into() }
}

fn throttled(until: i64) -> ChannelState {
    ChannelState::Throttled { until: Timestamp(until), reason: "550 5.4.5 Daily limit exceeded".into(), replies: 1 }
}

/// Pain 27: in every state.
#[test]
fn every_open_state_has_a_reason_and_no_final_one_has() {
    for state in RecipientState::ALL {
        let reason = of_recipient(&recipient(state, None, 0), &mail(Lane::Normal, None), &way(ChannelState::Active));
        assert_eq!(reason.is_none(), state.is_final(), "{state:?}");
    }
}

#[test]
fn of_the_channel_and_the_retry_the_later_one_is_named() {
    let (waits, mail) = (queued(2_000_000), mail(Lane::Normal, None));
    let parked = reason(&waits, &mail, &way(unreachable(2_500_000)));
    assert_eq!((parked.kind, parked.next_try), (WaitingKind::Channel, Some(Timestamp(2_500_000))));
    assert!(parked.text.contains("connection refused"));
    for state in [ChannelState::Active, unreachable(1_500_000)] {
        let retry = reason(&waits, &mail, &way(state));
        assert_eq!((retry.kind, retry.next_try), (WaitingKind::Retry, Some(Timestamp(2_000_000))));
        assert!(retry.text.contains("mailbox full"));
    }
}

#[test]
fn a_paused_channel_has_no_time_at_which_it_goes_on() {
    let paused = way(ChannelState::Paused { by: "ana@example.com".into() });
    let reason = reason(&queued(2_000_000), &mail(Lane::Normal, Some(3_000_000)), &paused);
    assert_eq!(reason.next_try, None);
    assert!(reason.text.contains("ana@example.com"));
}

#[test]
fn a_quota_names_its_reply_and_the_probe_that_ends_it() {
    let parked = reason(&queued(5), &mail(Lane::Normal, None), &way(throttled(1_900_000)));
    assert_eq!((parked.kind, parked.next_try), (WaitingKind::Channel, Some(Timestamp(1_900_000))));
    assert!(parked.text.contains("Daily limit exceeded") && parked.ends.contains("one message is tried"), "{parked:?}");
    let probing = reason(&queued(5), &mail(Lane::Normal, None), &way(throttled(900_000)));
    assert_eq!((probing.kind, probing.next_try), (WaitingKind::Channel, Some(NOW)));
}

#[test]
fn a_refused_login_is_confirmed_at_its_time() {
    let confirming = ChannelState::LoginRefused { until: Timestamp(1_045_000), reason: "535 5.7.8 no".into() };
    let reason = reason(&queued(5), &mail(Lane::Normal, None), &way(confirming));
    assert_eq!((reason.ends.as_str(), reason.next_try), ("the login is tried once more", Some(Timestamp(1_045_000))));
}

#[test]
fn who_has_no_charge_of_a_channel_sees_the_sort_of_trouble_and_not_its_words() {
    let states = [
        unreachable(1_500_000),
        throttled(1_500_000),
        ChannelState::LoginRefused { until: Timestamp(1_500_000), reason: "535 5.7.8 refused".into() },
        ChannelState::NeedsAttention { reason: "535 5.7.8 refused".into(), revision: 1 },
    ];
    for state in states {
        let words = state.reason().to_owned();
        let mut way = way(state);
        assert!(reason(&queued(5), &mail(Lane::Normal, None), &way).text.contains(&words));
        way.words = false;
        let text = reason(&queued(5), &mail(Lane::Normal, None), &way).text;
        assert!(!text.contains(&words) && text.contains("channel 'sales'"), "{text}");
    }
}

#[test]
fn a_full_limit_is_named_with_its_use_and_the_time_of_its_place_in_line() {
    let way = limited("30 messages / 1 minute", 30, false, Lane::Normal);
    let pace = reason(&queued(5), &mail(Lane::Normal, Some(1_240_000)), &way);
    assert_eq!((pace.kind, pace.next_try), (WaitingKind::Pace, Some(Timestamp(1_240_000))));
    let text = "the limit of channel 'sales' is used up: 30 messages / 1 minute (30 of 30 used); \
                12 messages go before it";
    assert_eq!(pace.text, text);
    assert!(pace.ends.contains("about"), "{}", pace.ends);
    let unknown = reason(&queued(5), &mail(Lane::Normal, None), &way);
    assert_eq!(unknown.next_try, Some(Timestamp(1_030_000)), "without a place, when the limit frees");
    let other_lane = reason(&queued(5), &mail(Lane::Now, None), &way);
    assert_eq!(other_lane.kind, WaitingKind::Turn);
}

#[test]
fn bulk_is_told_what_is_kept_for_others() {
    let text = |way: &Way, lane| reason(&queued(5), &mail(lane, None), way).text;
    let reserve = text(&limited("30 messages / 1 minute", 28, false, Lane::Bulk), Lane::Bulk);
    assert!(reserve.starts_with("what the limit of channel 'sales' leaves to bulk mail is used up"), "{reserve}");
    let room = text(&limited("30 recipients / 1 minute", 28, false, Lane::Normal), Lane::Normal);
    assert!(room.contains("has too little room for it") && room.contains("28 of 30 used"), "{room}");
    let mut way = way(ChannelState::Active);
    for (why, words) in [(Why::Spread, "spread evenly"), (Why::Connection, "last connection")] {
        way.outlook.lanes[2] = Some(LaneWait { until: None, why });
        let waits = reason(&queued(5), &mail(Lane::Bulk, None), &way);
        assert!(waits.kind == WaitingKind::Pace && waits.text.contains(words) && waits.next_try == Some(NOW), "{waits:?}");
    }
}

#[test]
fn mail_of_a_from_at_its_own_limit_waits_for_that_and_other_mail_of_the_lane_does_not() {
    let mut way = way(ChannelState::Active);
    let limit = limit("30 messages / 1 minute / from");
    way.outlook.limits = vec![LimitUse { limit, used: 0, frees_at: None, learned: false }];
    let until = Some(Timestamp(1_030_000));
    way.outlook.full_froms = vec![FullFrom { from: FromId::of("ana@example.com"), until, limit }];
    let full = reason(&queued(5), &mail(Lane::Normal, None), &way);
    assert_eq!((full.kind, full.next_try), (WaitingKind::Pace, until));
    assert!(full.text.contains("is used up: 30 messages / 1 minute / from") && !full.text.contains("0 of 30"), "{full:?}");
    let other = Mail { author: "luis@example.com", ..mail(Lane::Normal, None) };
    assert_eq!(reason(&queued(5), &other, &way).kind, WaitingKind::Turn);
}

#[test]
fn a_learned_limit_shows_the_reply_that_taught_it_to_those_in_charge() {
    let mut way = limited("15 messages / 1 minute", 15, true, Lane::Normal);
    let said = "421 4.7.0 slow down".to_owned();
    let pace = LearnedPace { per_minute: 15, before: 30, taught_at: NOW, step_at: NOW, said };
    way.outlook.lessons = Lessons { pace: Some(pace), cap: None };
    let text = reason(&queued(5), &mail(Lane::Normal, None), &way).text;
    assert!(text.contains("goes slower") && text.contains("15 of 15 used") && text.contains("421 4.7.0 slow down"), "{text}");
    way.words = false;
    assert!(!reason(&queued(5), &mail(Lane::Normal, None), &way).text.contains("421"));
}

#[test]
fn a_person_who_is_kept_back_waits_for_a_person_and_others_do_not() {
    let mut way = way(ChannelState::Active);
    way.outlook.paused_people = vec![(PersonId(1), Timestamp(3_000_000), "20 recipients in a row were refused".into())];
    let kept = reason(&queued(2_000_000), &mail(Lane::Normal, None), &way);
    assert_eq!((kept.kind, kept.next_try), (WaitingKind::Person, Some(Timestamp(3_000_000))));
    assert!(kept.text.contains("20 recipients in a row were refused"));
    way.outlook.state = unreachable(1_500_000);
    assert_eq!(reason(&queued(5), &mail(Lane::Normal, None), &way).kind, WaitingKind::Person, "whenever the channel is reached");
    way.outlook.state = ChannelState::Active;
    let other = Mail { person: PersonId(2), ..mail(Lane::Normal, None) };
    assert_eq!(reason(&queued(5), &other, &way).kind, WaitingKind::Turn);
}

#[test]
fn a_from_that_the_provider_refuses_is_named() {
    let mut way = way(ChannelState::Active);
    let refused = |person| RefusedSender { person, address: "ana@example.com".into(), said: "553 5.7.1 not yours".into() };
    way.outlook.refused_senders = vec![refused(PersonId(2))];
    let others = reason(&recipient(RecipientState::Held, None, 0), &mail(Lane::Normal, None), &way);
    assert!(!others.text.contains("send as"), "{others:?}");
    way.outlook.refused_senders.push(refused(PersonId(1)));
    let held = reason(&recipient(RecipientState::Held, None, 0), &mail(Lane::Normal, None), &way);
    assert_eq!((held.kind, held.next_try), (WaitingKind::Person, None));
    assert!(held.text.contains("send as ana@example.com") && held.ends.contains("releases"), "{held:?}");
    let by_reverse_path = Mail { author: "sales@example.com", reverse_path: "\"Ana\"@Example.COM", ..mail(Lane::Normal, None) };
    let held = reason(&recipient(RecipientState::Held, None, 0), &by_reverse_path, &way);
    assert!(held.text.contains("send as ana@example.com"), "however it is written: {held:?}");
}

#[test]
fn what_is_due_waits_for_its_turn_and_a_doubt_says_so() {
    let due = reason(&queued(5), &mail(Lane::Normal, Some(1_002_000)), &way(ChannelState::Active));
    assert_eq!((due.kind, due.next_try), (WaitingKind::Turn, Some(Timestamp(1_002_000))));
    let doubt = recipient(RecipientState::Queued, Some(2_000_000), 1);
    assert_eq!(reason(&doubt, &mail(Lane::Normal, None), &way(ChannelState::Active)).kind, WaitingKind::Uncertain);
}

#[test]
fn times_are_those_that_the_wall_clock_will_show() {
    let mut way = way(ChannelState::Active);
    way.clocks.wall = Timestamp(50_000_000);
    let next = |way: &Way, recipient: &RecipientView| reason(recipient, &mail(Lane::Normal, None), way).next_try.unwrap();
    assert_eq!(next(&way, &queued(1_060_000)), Timestamp(50_060_000));
    assert_eq!(next(&way, &queued(5)), Timestamp(50_000_000));
    way.outlook.state = unreachable(1_100_000);
    assert_eq!(next(&way, &queued(5)), Timestamp(50_100_000));
}

#[test]
fn a_message_waits_for_what_happens_first() {
    let of = |recipient: &RecipientView| reason(recipient, &mail(Lane::Normal, None), &way(ChannelState::Active));
    let held = of(&recipient(RecipientState::Held, None, 0));
    let retry = of(&queued(3_000_000));
    let leased = of(&recipient(RecipientState::Leased, None, 0));
    assert_eq!(of_message([&held, &retry].into_iter()), Some(retry.clone()));
    assert_eq!(of_message([&held, &retry, &leased].into_iter()), Some(leased));
    assert_eq!(of_message([].into_iter()), None);
}

#[test]
fn mail_with_a_time_waits_for_it_whatever_its_channel_does() {
    let hour = Timestamp(NOW.0 + 3_600_000);
    let early = Mail { scheduled_at: Some(hour), ..mail(Lane::Normal, None) };
    for state in [ChannelState::Active, ChannelState::Paused { by: "ana".into() }, throttled(1_060_000)] {
        let waits = reason(&queued(NOW.0), &early, &way(state));
        assert_eq!((waits.kind, waits.next_try), (WaitingKind::Schedule, Some(hour)));
        assert!(waits.text.starts_with("scheduled: it is not sent before 1970-01-01T01:16:40"), "{}", waits.text);
    }
    let come = Mail { scheduled_at: Some(NOW), ..mail(Lane::Normal, None) };
    assert_eq!(reason(&queued(NOW.0), &come, &way(ChannelState::Active)).kind, WaitingKind::Turn);
    let over = Mail { expires_at: Some(NOW), ..mail(Lane::Normal, None) };
    let waits = reason(&queued(NOW.0), &over, &way(ChannelState::Active));
    assert!(waits.text.contains("its time was over") && waits.next_try.is_none(), "{waits:?}");
}

#[test]
fn the_kind_that_lists_are_asked_for_is_the_kind_that_is_shown() {
    let active = || way(ChannelState::Active);
    let mut ways = vec![
        active(),
        limited("30 messages / 1 minute", 30, false, Lane::Normal),
        way(unreachable(1_030_000)),
        way(throttled(1_030_000)),
        way(throttled(900_000)),
        way(ChannelState::Paused { by: "ana".into() }),
        way(ChannelState::Disabled),
    ];
    let mut kept = active();
    kept.outlook.paused_people = vec![(PersonId(1), Timestamp(1_030_000), "550 no".into())];
    let mut full = active();
    let limit = limit("10 messages / 1 hour / from");
    full.outlook.full_froms = vec![FullFrom { from: FromId::of("ana@example.com"), until: None, limit }];
    ways.extend([kept, full]);
    let times = [None, Some(Timestamp(999_000)), Some(Timestamp(1_001_000))];
    for way in &ways {
        for state in RecipientState::ALL.into_iter().filter(|state| !state.is_final()) {
            for (due, doubts) in [(0, 0), (1_000_500, 0), (1_000_500, 1), (1_040_000, 0), (1_040_000, 2)] {
                for (scheduled_at, expires_at) in times.into_iter().flat_map(|one| times.map(|other| (one, other))) {
                    let shown = recipient(state, (state == RecipientState::Queued).then_some(due), doubts);
                    let mail = Mail { scheduled_at, expires_at, ..mail(Lane::Normal, None) };
                    let one = store::Waiting {
                        channel: mail::ChannelId(1),
                        person: PersonId(1),
                        lane: Lane::Normal,
                        from: FromId::of(mail.author),
                        scheduled_at,
                        expires_at,
                        state,
                        due: Timestamp(due),
                        doubts,
                    };
                    assert_eq!(Signs::of(way).kind(&one), reason(&shown, &mail, way).kind, "{one:?} {way:?}");
                }
            }
        }
    }
}
