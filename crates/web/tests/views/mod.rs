//! Why mail waits, what is tried again, whom nobody writes to, and who may see how much of it.

use super::gateway::{EVA_TOKEN, SECRET_WORDS, asks_to_be_told};
use super::*;
use mail::{ChannelId, ChannelState, Lane, Timestamp};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn ask_json(router: &Router, path: &str, body: &str) -> Got {
    ask(router, Method::POST, path, &[JSON], body).await
}

async fn delete(router: &Router, path: &str) -> Got {
    ask(router, Method::DELETE, path, &[], "").await
}

/// The state of the channel after a login that was refused twice.
fn needs_attention() -> ChannelState {
    ChannelState::NeedsAttention { reason: "535 5.7.8 bad password".into(), revision: 1 }
}

fn throttled() -> ChannelState {
    let until = Timestamp::parse("2026-11-25T09:00:00Z").unwrap();
    ChannelState::Throttled { until, reason: SECRET_WORDS.into(), replies: 1 }
}

#[tokio::test]
async fn a_message_that_waits_for_its_channels_pace_says_so_and_when_its_turn_is_about() {
    let (fake, router) = local();
    let ids = [submitted(&router).await, submitted(&router).await, submitted(&router).await];
    fake.paced();
    let waits = |message: &Value| message["waiting_on"].clone();
    let shown = waits(&get(&router, &format!("/api/v1/messages/{}", ids[2])).await.json());
    assert_eq!((shown["kind"].as_str(), shown["next_try"].as_str()), (Some("pace"), Some("2026-11-25T08:01:30.000Z")));
    let text = shown["text"].as_str().unwrap();
    assert!(text.contains("15 of 15 used") && text.contains("2 messages go before it"), "{text}");
    assert!(text.contains(SECRET_WORDS), "the operator sees the reply: {text}");
    let page = get(&router, "/api/v1/messages").await.json();
    assert_eq!(waits(&page["data"][0]), shown, "a list says the same");
    let first = &page["data"][2];
    assert_eq!((first["lane_reason"].as_str(), first["retry_of"].is_null()), (Some("51 recipients, more than 50"), true));
}

#[tokio::test]
async fn the_queue_counts_lanes_and_causes_and_says_when_it_is_through() {
    let (fake, router) = local();
    for _ in 0..3 {
        submitted(&router).await;
    }
    let held = submitted(&router).await;
    post(&router, &format!("/api/v1/messages/{held}/hold")).await;
    fake.paced();
    let line = get(&router, "/api/v1/queue").await.json()[0].clone();
    assert_eq!(line["causes"], serde_json::json!([{"kind": "pace", "count": 3}, {"kind": "person", "count": 1}]));
    let lane = &line["lanes"][0];
    assert_eq!((lane["lane"].as_str(), lane["messages"].as_u64(), lane["later"].as_u64()), (Some("normal"), Some(3), Some(0)));
    assert_eq!(lane["next_slot"], "2026-11-25T08:01:30.000Z");
    assert_eq!((&line["finishes_at"], &lane["finishes_at"]), (&"2026-11-25T08:01:03.000Z".into(), &line["finishes_at"]));
    fake.set_state(ChannelState::Paused { by: "ana@example.com".into() });
    let line = get(&router, "/api/v1/queue").await.json()[0].clone();
    assert_eq!((line["causes"][0]["kind"].as_str(), line["finishes_at"].is_null()), (Some("channel"), true));
}

#[tokio::test]
async fn whose_mail_is_kept_back_waits_for_a_person_and_is_a_trouble_until_one_message_is_tried() {
    let (fake, router) = local();
    for _ in 0..4 {
        submitted(&router).await;
    }
    fake.keep_back(1, "20 recipients in a row were refused");
    let line = get(&router, "/api/v1/queue").await.json()[0].clone();
    assert_eq!(line["causes"], serde_json::json!([{"kind": "person", "count": 4}]));
    let lane = &line["lanes"][0];
    assert_eq!((lane["messages"].as_u64(), lane["kept_back"].as_u64()), (Some(4), Some(4)));
    for time in [&line["next_due"], &line["finishes_at"], &lane["next_slot"], &lane["finishes_at"]] {
        assert!(time.is_null(), "{line}");
    }
    let said = |value: &Value| value["reason"].as_str().unwrap().to_owned();
    let reason = "mail of ana@example.com is kept back: 20 recipients in a row were refused";
    assert_eq!(said(&line), reason);
    let trouble = get(&router, "/api/v1/status").await.json()["channels_in_trouble"][0].clone();
    let tried_at = Some("2026-11-25T08:15:00.000Z");
    assert_eq!(
        (trouble["channel"].as_str(), said(&trouble), trouble["next_try"].as_str()),
        (Some("team"), reason.into(), tried_at)
    );
    let channels = get(&router, "/api/v1/channels").await.json();
    assert!(channels.as_array().unwrap().iter().any(|channel| said(channel) == reason), "{channels}");
    let asked = |body: &'static str| ask_json(&router, "/api/v1/estimates", body);
    let own = asked(r#"{"from": "ana@example.com", "messages": 1}"#).await.json();
    assert!(own["starts_at"].is_null() && own["text"].as_str().unwrap().contains("keeps the mail of its sender back"), "{own}");
    let other = asked(r#"{"from": "luis@example.com", "messages": 1}"#).await.json();
    assert_eq!((other["ahead"].as_u64(), other["starts_at"].as_str()), (Some(0), Some("2026-11-25T08:01:01.000Z")));
}

#[tokio::test]
async fn mail_that_waits_for_its_retry_leaves_no_sooner_than_it_is_due() {
    let (fake, router) = local();
    for due in ["2026-11-25T08:10:00Z", "2026-11-25T12:00:00Z"] {
        submitted(&router).await;
        fake.put_off(Timestamp::parse(due).unwrap()).await;
    }
    let line = get(&router, "/api/v1/queue").await.json()[0].clone();
    assert_eq!(line["causes"], serde_json::json!([{"kind": "retry", "count": 2}]));
    let (first, last) = ("2026-11-25T08:10:00.000Z", "2026-11-25T12:00:00.000Z");
    assert_eq!((&line["next_due"], &line["lanes"][0]["next_slot"]), (&first.into(), &first.into()));
    assert_eq!((&line["finishes_at"], &line["lanes"][0]["finishes_at"]), (&last.into(), &last.into()));
    let estimate = ask_json(&router, "/api/v1/estimates", r#"{"channel": "team", "messages": 1}"#).await.json();
    assert_eq!(estimate["ahead"].as_u64(), Some(0), "what is not due goes before nobody");
    fake.set_state(throttled());
    let line = get(&router, "/api/v1/queue").await.json()[0].clone();
    assert_eq!(line["next_due"], "2026-11-25T09:00:00.000Z", "nothing goes before its channel");
}

#[tokio::test]
async fn a_channel_shows_limits_their_use_and_the_reply_that_lowered_its_pace() {
    let (fake, router) = local();
    fake.paced();
    let channel = get(&router, "/api/v1/channels/team").await.json();
    let limit = &channel["limits"][0];
    assert_eq!((limit["used"].as_u64(), limit["count"].as_u64(), limit["learned"].as_bool()), (Some(15), Some(15), Some(true)));
    assert_eq!((limit["limit"].as_str(), limit["frees_at"].is_string()), (Some("15 messages / 1 minute"), true));
    let learned = &channel["learned"][0];
    assert_eq!((learned["before"].as_str(), learned["said"].as_str()), (Some("30 messages / 1 minute"), Some(SECRET_WORDS)));
    assert_eq!((channel["connections"].as_u64(), channel["connections_now"].as_u64()), (Some(4), Some(2)));
    assert!(channel["history"].is_array());
}

#[tokio::test]
async fn only_who_has_charge_of_a_channel_sees_what_its_next_hop_said() {
    let (fake, router) = public();
    let text = message("ana@example.com", "luis@example.org");
    let id = by_token(&router, Method::POST, "/api/v1/messages/raw", ANA_TOKEN, &text).await.json()["id"].clone();
    let message = format!("/api/v1/messages/{}", id.as_str().unwrap());
    fake.paced();
    for (state, words) in [(ChannelState::Active, SECRET_WORDS), (throttled(), SECRET_WORDS), (needs_attention(), "bad password")] {
        fake.set_state(state);
        let member = by_token(&router, Method::GET, "/api/v1/channels/team", ANA_TOKEN, "").await;
        assert_eq!(member.status, 200);
        assert!(!member.text.contains(words) && member.json()["username"].is_null(), "{}", member.text);
        let own = by_token(&router, Method::GET, &message, ANA_TOKEN, "").await;
        assert!(own.json()["waiting_on"]["text"].as_str().is_some_and(|text| text.contains("channel 'team'")), "{}", own.text);
        assert!(!own.text.contains(words), "{}", own.text);
        let listed = by_token(&router, Method::GET, "/api/v1/channels", ANA_TOKEN, "").await;
        assert!(!listed.text.contains(words), "{}", listed.text);
        let in_charge = by_token(&router, Method::GET, "/api/v1/channels/team", EVA_TOKEN, "").await;
        assert!(in_charge.text.contains(words) && in_charge.json()["username"] == "sales", "{}", in_charge.text);
    }
}

#[tokio::test]
async fn a_release_lets_the_channel_look_again() {
    let (fake, router) = local();
    let id = submitted(&router).await;
    post(&router, &format!("/api/v1/messages/{id}/hold")).await;
    assert_eq!(fake.released(), []);
    post(&router, &format!("/api/v1/messages/{id}/release")).await;
    assert_eq!(fake.released(), [ChannelId(1)]);
    post(&router, &format!("/api/v1/messages/{id}/release")).await.problem(409, "message_not_releasable");
    assert_eq!(fake.released().len(), 1);
}

#[tokio::test]
async fn a_release_of_mail_that_a_channel_keeps_back_lets_it_go_on() {
    let (fake, router) = public();
    let text = message("ana@example.com", "luis@example.org");
    let id = by_token(&router, Method::POST, "/api/v1/messages/raw", ANA_TOKEN, &text).await.json()["id"].clone();
    let path = format!("/api/v1/messages/{}/release", id.as_str().unwrap());
    fake.keep_back(1, "20 recipients in a row were refused");
    by_token(&router, Method::POST, &path, ANA_TOKEN, "").await.problem(409, "message_not_releasable");
    assert_eq!(fake.released(), [], "a member has no charge of what a shared channel keeps back");
    let router = web::Surface::new(fake.shared()).local();
    let released = post(&router, &path).await;
    assert_eq!((released.status.as_u16(), &released.json()["moved"][0]), (200, &"luis@example.org".into()), "{}", released.text);
    assert_eq!(fake.released(), [ChannelId(1)]);
    post(&router, &path).await.problem(409, "message_not_releasable");
}

#[tokio::test]
async fn a_member_lets_a_message_go_on_but_not_what_a_shared_channel_keeps_back() {
    let (fake, router) = public();
    for (token, from, released) in [(ANA_TOKEN, "ana@example.com", 0), (EVA_TOKEN, "eva@example.com", 1)] {
        let text = message(from, "luis@example.org");
        let id = by_token(&router, Method::POST, "/api/v1/messages/raw", token, &text).await.json()["id"].clone();
        for verb in ["hold", "release"] {
            let path = format!("/api/v1/messages/{}/{verb}", id.as_str().unwrap());
            assert_eq!(by_token(&router, Method::POST, &path, token, "").await.status, 200);
        }
        assert_eq!(fake.released().len(), released, "{from}");
    }
}

#[tokio::test]
async fn what_was_given_up_is_tried_again_with_the_same_bytes_and_only_once() {
    let (fake, router) = local();
    let id = submitted(&router).await;
    let path = format!("/api/v1/messages/{id}/retry");
    let refused = post(&router, &path).await;
    assert!(refused.problem(409, "message_not_retryable")["detail"].as_str().unwrap().contains("is queued"));
    fake.refuse("no such user here").await;
    let bytes = get(&router, &format!("/api/v1/messages/{id}/raw")).await.text;
    let retried = post(&router, &path).await;
    assert_eq!(retried.status, 202, "{}", retried.text);
    let retried = retried.json();
    assert_eq!((&retried["retry_of"], &retried["recipients"][0]), (&id.as_str().into(), &"luis@example.org".into()));
    assert_eq!(fake.repeated(), (bytes, Lane::Normal, "team".into()));
    let told = vec![asks_to_be_told(smtp::ForwardPath::parse("<luis@example.org>").unwrap())];
    assert_eq!(fake.repeated_wishes(), (Some(mail::envelope::Ret::Full), Some("QQ314159".into()), told));
    let new = get(&router, &format!("/api/v1/messages/{}", retried["id"].as_str().unwrap())).await.json();
    assert_eq!((&new["retry_of"], new["person"].as_str()), (&id.as_str().into(), Some("ana@example.com")));
    let again = post(&router, &path).await.json();
    assert_eq!((&again["id"], again["replayed"].as_bool()), (&retried["id"], Some(true)));
    post(&router, &format!("{path}?recipient=eva@example.net")).await.problem(422, "validation_failed");
    post(&router, "/api/v1/messages/msg_00000000000000000000000000/retry").await.problem(404, "message_not_found");
}

#[tokio::test]
async fn what_was_suppressed_is_tried_again_once_its_address_is_off_the_list() {
    for address in ["luis@example.org", "\"luis\"@example.org"] {
        let (fake, router) = local();
        let text = message("ana@example.com", address);
        submit(&router, "", &text).await;
        fake.refuse("no such user here").await;
        let submitted = submit(&router, "", &text).await.json();
        let path = format!("/api/v1/messages/{}/retry", submitted["id"].as_str().unwrap());
        let refused = post(&router, &path).await.problem(409, "message_not_retryable");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("{address} is suppressed")) && detail.contains("suppression remove"), "{detail}");
        assert_eq!(delete(&router, "/api/v1/suppressions/luis@example.org").await.status, 200);
        let retried = post(&router, &path).await;
        assert_eq!((retried.status.as_u16(), &retried.json()["recipients"][0]), (202, &address.into()), "{}", retried.text);
    }
}

/// Eva has the team in charge, luis is of it; the message is ana's.
#[tokio::test]
async fn whoever_has_a_team_in_charge_sees_its_messages_and_nobody_else_does() {
    let (_fake, router) = public();
    let text = message("ana@example.com", "luis@example.org");
    let id = by_token(&router, Method::POST, "/api/v1/messages/raw", ANA_TOKEN, &text).await.json()["id"].clone();
    let id = id.as_str().unwrap();
    for (token, query, count) in [
        (EVA_TOKEN, "", 0),
        (EVA_TOKEN, "?team=sales", 1),
        (EVA_TOKEN, "?team=sales&person=ana@example.com", 1),
        (EVA_TOKEN, "?team=sales&person=luis@example.com", 0),
        (LUIS_TOKEN, "?team=sales", 0),
        (LUIS_TOKEN, "?team=sales&person=luis@example.com", 0),
        (ANA_TOKEN, "?team=sales", 1),
    ] {
        let listed = by_token(&router, Method::GET, &format!("/api/v1/messages{query}"), token, "").await.json();
        assert_eq!(listed["data"].as_array().unwrap().len(), count, "{query}: {listed}");
        let counted = by_token(&router, Method::GET, &format!("/api/v1/messages/counts{query}"), token, "").await.json();
        assert_eq!(counted["total"], count, "{query}: {counted}");
    }
    for (token, query) in [
        (LUIS_TOKEN, "?team=sales&person=ana@example.com"),
        (LUIS_TOKEN, "?person=ana@example.com"),
        (EVA_TOKEN, "?person=ana@example.com"),
        (EVA_TOKEN, "?team=none"),
    ] {
        let got = by_token(&router, Method::GET, &format!("/api/v1/messages{query}"), token, "").await;
        got.problem(422, "validation_failed");
        by_token(&router, Method::GET, &format!("/api/v1/messages/counts{query}"), token, "")
            .await
            .problem(422, "validation_failed");
    }
    for part in ["", "/events"] {
        let path = format!("/api/v1/messages/{id}{part}");
        assert_eq!(by_token(&router, Method::GET, &path, EVA_TOKEN, "").await.status, 200);
        by_token(&router, Method::GET, &path, LUIS_TOKEN, "").await.problem(404, "message_not_found");
    }
}

#[tokio::test]
async fn a_token_steers_its_own_messages_and_no_others() {
    let (fake, router) = public();
    let text = message("ana@example.com", "luis@example.org");
    let id = by_token(&router, Method::POST, "/api/v1/messages/raw", ANA_TOKEN, &text).await.json()["id"].clone();
    let id = id.as_str().unwrap();
    for token in [LUIS_TOKEN, EVA_TOKEN] {
        for verb in ["hold", "release", "cancel", "retry"] {
            let path = format!("/api/v1/messages/{id}/{verb}");
            by_token(&router, Method::POST, &path, token, "").await.problem(404, "message_not_found");
        }
        let raw = format!("/api/v1/messages/{id}/raw");
        by_token(&router, Method::GET, &raw, token, "").await.problem(404, "message_not_found");
        let listed = by_token(&router, Method::GET, "/api/v1/messages", token, "").await.json();
        assert_eq!(listed["data"].as_array().unwrap().len(), 0);
    }
    let filter = by_token(&router, Method::GET, "/api/v1/messages?person=ana@example.com", LUIS_TOKEN, "").await;
    filter.problem(422, "validation_failed");
    assert_eq!(by_token(&router, Method::GET, "/api/v1/messages", ANA_TOKEN, "").await.json()["data"][0]["id"], id);
    for verb in ["hold", "release", "cancel", "retry"] {
        let got = by_token(&router, Method::POST, &format!("/api/v1/messages/{id}/{verb}"), ANA_TOKEN, "").await;
        assert!(got.status.is_success(), "{verb}: {}", got.text);
    }
    assert_eq!(fake.repeated().2, "team");
    let events = by_token(&router, Method::GET, &format!("/api/v1/messages/{id}/events"), ANA_TOKEN, "").await;
    assert!(events.text.contains("ana@example.com"), "who did it stands in the history: {}", events.text);
}

#[tokio::test]
async fn a_message_is_moved_a_hundred_times_an_hour_and_its_history_comes_in_pages() {
    let (_fake, router) = public();
    let text = message("ana@example.com", "luis@example.org");
    let id = by_token(&router, Method::POST, "/api/v1/messages/raw", ANA_TOKEN, &text).await.json()["id"].clone();
    let path = |part: &str| format!("/api/v1/messages/{}/{part}", id.as_str().unwrap());
    for verb in ["hold", "release"].iter().cycle().take(100) {
        assert!(by_token(&router, Method::POST, &path(verb), ANA_TOKEN, "").await.status.is_success());
    }
    let refused = by_token(&router, Method::POST, &path("hold"), ANA_TOKEN, "").await;
    assert!(refused.headers.contains_key("retry-after"), "{}", refused.text);
    refused.problem(429, "too_many_moves");
    let (mut after, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let page = by_token(&router, Method::GET, &path(&format!("events?limit=40&after={after}")), ANA_TOKEN, "").await.json();
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 40);
        seen.extend(data.iter().map(|event| event["sequence"].as_u64().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        after = next.to_owned();
    }
    assert!(seen.len() == 101 && seen.is_sorted(), "{seen:?}");
    let usual = by_token(&router, Method::GET, &path("events"), ANA_TOKEN, "").await.json();
    assert_eq!((usual["data"].as_array().unwrap().len(), usual["has_more"].as_bool()), (100, Some(true)));
}

#[tokio::test]
async fn suppressed_addresses_are_listed_by_cursor_and_taken_off_again() {
    let (fake, router) = local();
    for to in ["b@example.org", "a@example.org", "c@example.org"] {
        submit(&router, "", &message("ana@example.com", to)).await;
        fake.refuse("no such user here").await;
    }
    let page = get(&router, "/api/v1/suppressions?limit=2").await.json();
    let addresses: Vec<&str> = page["data"].as_array().unwrap().iter().map(|one| one["address"].as_str().unwrap()).collect();
    assert_eq!((addresses, page["has_more"].as_bool()), (vec!["a@example.org", "b@example.org"], Some(true)));
    let first = &page["data"][0];
    assert!(first["owner"] == "team:sales" && first["reason"].as_str().unwrap().contains("no such user here"), "{first}");
    let rest = get(&router, &format!("/api/v1/suppressions?after={}", page["next"].as_str().unwrap())).await.json();
    assert_eq!((rest["data"][0]["address"].as_str(), rest["has_more"].as_bool()), (Some("c@example.org"), Some(false)));
    let removed = delete(&router, "/api/v1/suppressions/%22A%22@example.org?team=sales").await.json();
    assert_eq!(removed["removed_from"][0], "team:sales");
    delete(&router, "/api/v1/suppressions/a@example.org").await.problem(404, "suppression_not_found");
    delete(&router, "/api/v1/suppressions/b@example.org?team=none").await.problem(422, "validation_failed");
    assert_eq!(delete(&router, "/api/v1/suppressions/b@example.org").await.status, 200);
    assert_eq!(get(&router, "/api/v1/suppressions?team=sales").await.json()["data"].as_array().unwrap().len(), 1);
    get(&router, "/api/v1/suppressions?limit=0").await.problem(422, "validation_failed");
}

#[tokio::test]
async fn a_teams_list_is_seen_by_its_members_and_changed_by_its_administrators() {
    let (fake, router) = public();
    let text = message("ana@example.com", "gone@example.org");
    by_token(&router, Method::POST, "/api/v1/messages/raw", ANA_TOKEN, &text).await;
    fake.refuse("no such user here").await;
    let listed = by_token(&router, Method::GET, "/api/v1/suppressions", LUIS_TOKEN, "").await.json();
    assert_eq!(listed["data"][0]["address"], "gone@example.org");
    let path = "/api/v1/suppressions/gone@example.org";
    by_token(&router, Method::DELETE, path, LUIS_TOKEN, "").await.problem(403, "not_in_charge");
    by_token(&router, Method::DELETE, &format!("{path}?team=sales"), ANA_TOKEN, "").await.problem(403, "not_in_charge");
    assert_eq!(by_token(&router, Method::DELETE, path, EVA_TOKEN, "").await.status, 200);
}

#[tokio::test]
async fn an_estimate_counts_what_waits_already_and_says_when_it_is_through() {
    let (fake, router) = local();
    submitted(&router).await;
    let path = "/api/v1/estimates";
    let got = ask_json(&router, path, r#"{"channel": "team", "messages": 10}"#).await.json();
    assert_eq!((got["ahead"].as_u64(), got["transactions"].as_u64()), (Some(1), Some(10)));
    assert_eq!((&got["starts_at"], &got["finishes_at"]), (&"2026-11-25T08:01:02.000Z".into(), &"2026-11-25T08:01:11.000Z".into()));
    assert!(got["text"].as_str().unwrap().contains("about"), "{got}");
    let by_from = ask_json(&router, path, r#"{"from": "ana@example.com", "lane": "now", "messages": 10}"#).await.json();
    assert_eq!((by_from["channel"].as_str(), by_from["ahead"].as_u64()), (Some("team"), Some(0)));
    fake.set_state(needs_attention());
    let parked = ask_json(&router, path, r#"{"channel": "team", "messages": 10}"#).await.json();
    assert!(parked["finishes_at"].is_null() && parked["text"].as_str().unwrap().contains("waits for a person"), "{parked}");
}

#[tokio::test]
async fn an_estimate_that_is_asked_for_wrongly_is_refused_with_every_reason() {
    let (_fake, router) = local();
    for (body, hint) in [
        (r#"{"messages": 1}"#, "either 'channel', or 'from'"),
        (r#"{"channel": "team", "from": "ana@example.com", "messages": 1}"#, "either 'channel', or 'from'"),
        (r#"{"channel": "team", "messages": 0}"#, "'messages' is a number from 1"),
        (r#"{"channel": "team", "messages": 1, "recipients": 0}"#, "'recipients' is a number from 1"),
        (r#"{"channel": "team", "messages": 1000000000, "recipients": 1000000000}"#, "'messages' times 'recipients' is at most"),
        (r#"{"channel": "team", "messages": 1, "lane": "soon"}"#, "soon"),
        (r#"{"channel": "team", "messages": 1, "colour": "red"}"#, "colour"),
        (r#"{"from": "nowhere", "messages": 1}"#, "nowhere"),
        (r#"{"from": "stranger@example.net", "messages": 1}"#, "nobody may send as"),
    ] {
        let got = ask_json(&router, "/api/v1/estimates", body).await;
        let problem = got.problem(422, "validation_failed");
        assert!(problem["detail"].as_str().unwrap().contains(hint), "{body}: {}", got.text);
    }
    ask_json(&router, "/api/v1/estimates", r#"{"channel": "none", "messages": 1}"#).await.problem(404, "channel_not_found");
    ask_json(&router, "/api/v1/estimates", "{").await.problem(400, "malformed_json");
}
