//! The API as its callers see it: every path, what is wrong with each, and who may see what.
#![allow(clippy::unwrap_used)]

mod backups;
mod gateway;
mod views;

use self::gateway::{ANA_TOKEN, Fake, LUIS_TOKEN, message};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use web::serve::{Connections, tcp};

struct Got {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// Checks that it is a problem document, whole, and returns it.
    fn problem(&self, status: u16, code: &str) -> Value {
        let body = self.json();
        assert_eq!((self.status.as_u16(), body["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(body["status"], status);
        for member in ["type", "title", "detail", "instance", "request_id", "source"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {}", self.text);
        }
        assert_eq!(self.headers["x-request-id"].to_str().ok(), body["request_id"].as_str());
        body
    }
}

async fn ask(router: &Router, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Got { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
}

async fn get(router: &Router, path: &str) -> Got {
    ask(router, Method::GET, path, &[], "").await
}

async fn post(router: &Router, path: &str) -> Got {
    ask(router, Method::POST, path, &[], "").await
}

const MAIL: (&str, &str) = ("content-type", "message/rfc822");

async fn submit(router: &Router, query: &str, text: &str) -> Got {
    ask(router, Method::POST, &format!("/api/v1/messages/raw{query}"), &[MAIL], text).await
}

async fn submitted(router: &Router) -> String {
    let got = submit(router, "", &message("ana@example.com", "luis@example.org")).await;
    assert_eq!(got.status, 202, "{}", got.text);
    got.json()["id"].as_str().unwrap().to_owned()
}

fn local() -> (Fake, Router) {
    let fake = Fake::new();
    let router = web::Surface::new(fake.shared()).local();
    (fake, router)
}

fn public() -> (Fake, Router) {
    let fake = Fake::new();
    let router = web::Surface::new(fake.shared()).public();
    (fake, router)
}

#[tokio::test]
async fn an_accepted_message_is_answered_with_id_channel_lane_size_and_reason() {
    let (_fake, router) = local();
    let got = submit(&router, "", &message("ana@example.com", "luis@example.org")).await;
    assert_eq!(got.status, 202, "{}", got.text);
    let body = got.json();
    assert!(body["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!((body["channel"].as_str(), body["lane"].as_str()), (Some("team"), Some("normal")));
    assert!(body["size"].as_u64().unwrap() > 50);
    assert_eq!(body["waiting_on"]["kind"], "turn");
    assert_eq!(got.headers["location"], format!("/api/v1/messages/{}", body["id"].as_str().unwrap()));
}

#[tokio::test]
async fn a_message_with_times_says_them_and_waits_for_the_first() {
    let (_fake, router) = local();
    let text = message("ana@example.com", "luis@example.org");
    let got = submit(&router, "?scheduled_at=2099-01-01T10:00:00%2B01:00&expires_at=2099-01-01T10:00:00Z", &text).await;
    assert_eq!(got.status, 202, "{}", got.text);
    let body = got.json();
    assert_eq!(
        (body["waiting_on"]["kind"].as_str(), body["waiting_on"]["next_try"].as_str()),
        (Some("schedule"), Some("2099-01-01T09:00:00.000Z"))
    );
    let shown = ask(&router, Method::GET, &format!("/api/v1/messages/{}", body["id"].as_str().unwrap()), &[], "").await.json();
    assert_eq!(shown["status"], "queued");
    assert_eq!(
        (&shown["scheduled_at"], &shown["expires_at"]),
        (&"2099-01-01T09:00:00.000Z".into(), &"2099-01-01T10:00:00.000Z".into())
    );
    for query in ["?scheduled_at=tomorrow", "?expires_at=15m", "?expires_at=2099-01-01T10:00:00"] {
        let got = submit(&router, query, &text).await;
        assert_eq!((got.status.as_u16(), got.json()["code"].as_str()), (422, Some("validation_failed")), "{query}");
        assert!(got.text.contains("with its offset"), "{}", got.text);
    }
}

#[tokio::test]
async fn the_envelope_comes_from_the_query_or_from_the_message() {
    let (fake, router) = local();
    let text = message("ana@example.com", "luis@example.org")
        .replace("Subject", "Cc: <eva@example.net>\r\nBcc: <max@example.net>\r\nSubject");
    submit(&router, "", &text).await;
    assert_eq!(fake.last().1, ["luis@example.org", "eva@example.net", "max@example.net"]);
    assert_eq!(fake.last().0, "ana@example.com");
    submit(&router, "?from=&to=one@example.net&to=two@example.net&to=one@example.net", &text).await;
    assert_eq!(fake.last().1, ["one@example.net", "two@example.net"]);
    assert_eq!(fake.last().0, "");
}

#[tokio::test]
async fn over_the_socket_a_message_is_sent_with_the_rights_of_whose_address_its_from_is() {
    let (fake, router) = local();
    submit(&router, "", &message("luis@example.com", "x@example.org")).await;
    assert_eq!(fake.last_person(), "luis@example.com");
    submit(&router, "", &message("sales@example.com", "x@example.org")).await;
    assert_eq!(fake.last_person(), "ana@example.com");
    submit(&router, "?person=luis@example.com", &message("ana@example.com", "x@example.org")).await;
    assert_eq!(fake.last_person(), "luis@example.com");
    let got = submit(&router, "", &message("stranger@example.net", "x@example.org")).await;
    assert!(got.problem(422, "validation_failed")["detail"].as_str().unwrap().contains("--person"));
    let got = submit(&router, "?person=nobody@example.com", &message("ana@example.com", "x@example.org")).await;
    got.problem(422, "validation_failed");
}

#[tokio::test]
async fn a_submission_that_is_wrong_is_refused_with_every_reason() {
    let (_fake, router) = local();
    let good = message("ana@example.com", "luis@example.org");
    let got = submit(&router, "?to=nobody&lane=soon&colour=red&from=x", &good).await;
    let body = got.problem(422, "validation_failed");
    let pointers: Vec<&str> = body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/query/from", "/query/to", "/query/lane", "/query/colour"]);
    submit(&router, "?to=%ff%40b.example", &good).await.problem(422, "validation_failed");
    submit(&router, "?to=a%40b.example&tag=a%0ab%3Dc", &good).await.problem(422, "validation_failed");
    submit(&router, "", "no header here at all").await.problem(422, "validation_failed");
    submit(&router, "", "Subject: no author\r\n\r\nx\r\n").await.problem(422, "validation_failed");
    submit(&router, "", "From: ana@example.com\r\n\r\nnobody to send it to\r\n").await.problem(422, "validation_failed");
    let path = "/api/v1/messages/raw";
    ask(&router, Method::POST, path, &[("content-type", "application/json")], &good).await.problem(415, "unsupported_media_type");
    ask(&router, Method::POST, path, &[], &good).await.problem(415, "unsupported_media_type");
    ask(&router, Method::POST, path, &[MAIL, ("idempotency-key", "")], &good).await.problem(422, "validation_failed");
    ask(&router, Method::POST, path, &[MAIL, ("idempotency-key", &"k".repeat(256))], &good).await.problem(422, "validation_failed");
    ask(&router, Method::POST, path, &[MAIL], &good.repeat(2000)).await.problem(413, "message_too_large");
    get(&router, path).await.problem(405, "method_not_allowed");
}

#[tokio::test]
async fn too_much_open_mail_is_told_before_the_body_is_looked_at_and_when_to_come_again() {
    let (_fake, router) = public();
    let bearer = format!("Bearer {ANA_TOKEN}");
    let headers = [("authorization", &*bearer), MAIL, ("content-length", "4711")];
    let got = ask(&router, Method::POST, "/api/v1/messages/raw", &headers, "a body that is no message").await;
    assert_eq!(got.headers["retry-after"], "30");
    let detail = got.problem(429, "gateway_rate_limited")["detail"].to_string();
    assert!(detail.contains("ana@example.com has 5 messages"), "{detail}");
    assert!(!got.headers.contains_key("connection"), "all of it was there");
}

/// The head of a request over the cap, and so much of its body as is there when somebody asks; how long the answer takes, and it.
async fn put_off(header: &str, piece: usize) -> (std::time::Duration, Response<Body>) {
    let (_fake, router) = public();
    let pieces = futures_util::stream::unfold(4711usize, move |left| async move {
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        let now = piece.min(left);
        (now > 0).then(|| (Ok::<_, std::io::Error>(vec![b'x'; now]), left - now))
    });
    let request = Request::post("/api/v1/messages/raw")
        .header("authorization", format!("Bearer {ANA_TOKEN}"))
        .header("content-type", "message/rfc822")
        .header("content-length", "4711")
        .header(header, "100-continue");
    let began = tokio::time::Instant::now();
    let answer = router.oneshot(request.body(Body::from_stream(pieces)).unwrap()).await.unwrap();
    (began.elapsed(), answer)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_put_off_and_sends_slowly_does_not_keep_its_connection() {
    let (after, answer) = put_off("x-other", 1).await;
    assert_eq!((answer.status().as_u16(), after.as_secs()), (429, 2));
    assert!(answer.headers()["connection"] == "close" && answer.headers()["retry-after"] == "30");
    let (_, answer) = put_off("x-other", 4000).await;
    assert!(!answer.headers().contains_key("connection"), "the rest came in time");
    let (after, answer) = put_off("expect", 1).await;
    assert_eq!((answer.status().as_u16(), after.as_millis()), (429, 0));
    assert!(!answer.headers().contains_key("connection"), "it sends nothing");
}

#[tokio::test]
async fn a_repeated_submission_answers_with_the_first_id_and_says_so() {
    let (_fake, router) = local();
    let text = message("ana@example.com", "luis@example.org");
    let path = "/api/v1/messages/raw";
    let first = ask(&router, Method::POST, path, &[MAIL, ("idempotency-key", "\"k 1\"")], &text).await;
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let again = ask(&router, Method::POST, path, &[MAIL, ("idempotency-key", "k 1")], &text).await;
    assert_eq!(again.status, 202, "{}", again.text);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.json()["id"], first.json()["id"]);
    let other = ask(&router, Method::POST, path, &[MAIL, ("idempotency-key", "k 1")], &text.replace("Hello", "Bye")).await;
    other.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_message_is_shown_with_its_recipients_events_and_bytes() {
    let (_fake, router) = local();
    let id = submitted(&router).await;
    let shown = get(&router, &format!("/api/v1/messages/{id}")).await.json();
    assert_eq!((shown["status"].as_str(), shown["person"].as_str()), (Some("queued"), Some("ana@example.com")));
    assert_eq!(shown["recipients"][0]["address"], "luis@example.org");
    assert_eq!(shown["recipients"][0]["waiting_on"]["kind"], "turn");
    assert!(shown["created_at"].as_str().unwrap().ends_with('Z'));
    let events = get(&router, &format!("/api/v1/messages/{id}/events")).await.json();
    assert_eq!(events["data"][0]["kind"], "message.queued", "{events}");
    let raw = get(&router, &format!("/api/v1/messages/{id}/raw")).await;
    assert_eq!(raw.headers["content-type"], "message/rfc822");
    assert!(raw.text.contains("Subject: Hello"));
}

#[tokio::test]
async fn a_large_message_is_taken_in_and_given_out_in_pieces() {
    let (_fake, router) = local();
    let text = message("ana@example.com", "luis@example.org") + &"0123456789\r\n".repeat(7000);
    let got = submit(&router, "", &text).await;
    assert_eq!(got.status, 202, "{}", got.text);
    assert_eq!(got.json()["size"], text.len());
    let raw = get(&router, &format!("/api/v1/messages/{}/raw", got.json()["id"].as_str().unwrap())).await;
    assert_eq!(raw.headers["content-length"], text.len().to_string());
    assert!(raw.text == text);
    let odd = submit(&router, "", &(text + "a\nb\r\n")).await;
    odd.problem(422, "validation_failed");
}

#[tokio::test]
async fn a_large_message_that_is_refused_is_answered_when_all_of_it_was_sent() {
    let (fake, router) = local();
    // More than the socket's buffers hold.
    fake.allow(32 << 20);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let connections = Connections::new(8, stop.clone());
    let server = tokio::spawn(tcp(listener, router, connections.clone()));
    let of_nobody = message("eva@example.net", "luis@example.org");
    let to_nobody = "From: <ana@example.com>\r\nSubject: Hello\r\n\r\n";
    let of_ana = message("ana@example.com", "luis@example.org");
    for (query, header, code) in [
        ("", of_nobody.as_str(), "validation_failed"),
        ("", "Subject: Hello\r\n\r\n", "validation_failed"),
        ("", to_nobody, "validation_failed"),
        ("?lane=soon", &of_ana, "validation_failed"),
    ] {
        let body = [header.as_bytes(), &b"0123456789abcd\r\n".repeat(1 << 20)].concat();
        let head = format!(
            "POST /api/v1/messages/raw{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            MAIL.1,
            body.len()
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap_or_else(|broken| panic!("{header:?}: {broken}"));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 422") && answer.contains(code), "{header:?}: {answer}");
    }
    stop.cancel();
    server.await.unwrap();
    connections.ended().await;
}

#[tokio::test]
async fn what_is_not_there_is_a_404_that_says_so() {
    let (_fake, router) = local();
    let unknown = "msg_00000000000000000000000000";
    for path in ["", "/events", "/raw"] {
        get(&router, &format!("/api/v1/messages/{unknown}{path}")).await.problem(404, "message_not_found");
        get(&router, &format!("/api/v1/messages/no-id{path}")).await.problem(404, "message_not_found");
    }
    for verb in ["cancel", "hold", "release"] {
        post(&router, &format!("/api/v1/messages/{unknown}/{verb}")).await.problem(404, "message_not_found");
    }
    get(&router, "/api/v1/channels/none").await.problem(404, "channel_not_found");
    for verb in ["test", "pause", "resume"] {
        post(&router, &format!("/api/v1/channels/none/{verb}")).await.problem(404, "channel_not_found");
    }
    get(&router, "/api/v1/nothing").await.problem(404, "not_found");
    get(&router, "/").await.problem(404, "not_found");
    post(&router, "/api/v1/queue").await.problem(405, "method_not_allowed");
}

#[tokio::test]
async fn a_list_is_walked_by_cursors_in_both_directions() {
    let (_fake, router) = local();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(submitted(&router).await);
    }
    ids.reverse();
    let of = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = get(&router, "/api/v1/messages?limit=2").await.json();
    assert_eq!((of(&first), first["has_more"].as_bool()), (ids[..2].to_vec(), Some(true)));
    assert!(first["prev"].is_null());
    let second = get(&router, &format!("/api/v1/messages?limit=2&after={}", first["next"].as_str().unwrap())).await.json();
    assert_eq!(of(&second), ids[2..4]);
    let last = get(&router, &format!("/api/v1/messages?limit=2&after={}", second["next"].as_str().unwrap())).await.json();
    assert_eq!((of(&last), last["has_more"].as_bool(), last["next"].is_null()), (ids[4..].to_vec(), Some(false), true));
    let back = get(&router, &format!("/api/v1/messages?limit=2&before={}", second["prev"].as_str().unwrap())).await.json();
    assert_eq!(of(&back), ids[..2]);
}

#[tokio::test]
async fn a_list_is_filtered_by_every_field() {
    let (_fake, router) = local();
    submitted(&router).await;
    submit(&router, "?to=eva@example.net", &message("luis@example.com", "eva@example.net")).await;
    for (query, count) in [
        ("status=queued", 2),
        ("status=sent", 0),
        ("status=sent&status=queued", 2),
        ("channel=team", 2),
        ("channel=capture", 0),
        ("person=luis@example.com", 1),
        ("recipient=EVA@example.net", 1),
        ("created_after=2020-01-01T00:00:00Z", 2),
        ("created_before=2020-01-01T00:00:00Z", 0),
        ("team=sales", 2),
        ("lane=normal", 2),
        ("lane=bulk", 0),
        ("tag.none=1", 0),
        ("recipient=@example.net", 1),
        ("recipient=@example.com", 0),
        ("from=ANA@example.com", 2),
        ("from=luis@example.com", 0),
        ("subject=hELL", 2),
        ("subject=bye", 0),
        ("waiting_on=turn", 2),
        ("waiting_on=person", 0),
        ("waiting_on=turn&subject=hello&from=ana@example.com&recipient=@example.net&status=queued&team=sales", 1),
        ("limit=1", 1),
    ] {
        let page = get(&router, &format!("/api/v1/messages?{query}")).await.json();
        assert_eq!(page["data"].as_array().unwrap().len(), count, "{query}");
    }
    assert_eq!(get(&router, "/api/v1/captured").await.json()["data"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_wrong_filter_is_refused_and_names_what_there_is() {
    let (_fake, router) = local();
    for (query, hint) in [
        ("status=lost", "queued"),
        ("channel=none", "none"),
        ("person=nobody@example.com", "nobody@example.com"),
        ("created_after=yesterday", "RFC 3339"),
        ("lane=slow", "bulk"),
        ("team=none", "none"),
        ("recipient=eva@", "@example.org"),
        ("from=eva", "ana@example.com"),
        ("subject=", "at least one letter"),
        ("waiting_on=godot", "schedule"),
        ("tag.=x", "tag.KEY"),
        ("tag=x", "tag.KEY"),
        ("lane=slow&status=lost", "lost"),
        ("limit=0", "1000"),
        ("limit=1001", "1000"),
        ("limit=few", "1000"),
        ("after=x", "cursor"),
        ("after=msg_00000000000000000000000000&before=msg_00000000000000000000000000", "together"),
        ("page=2", "limit"),
        ("limit=1&limit=2", "once"),
    ] {
        let got = get(&router, &format!("/api/v1/messages?{query}")).await;
        let body = got.problem(422, "validation_failed");
        assert!(body["detail"].as_str().unwrap().contains(hint), "{query}: {}", got.text);
    }
}

#[tokio::test]
async fn recipients_are_counted_by_state_of_a_channel_a_person_or_a_team() {
    let (_fake, router) = local();
    submitted(&router).await;
    submit(&router, "?to=eva@example.net", &message("luis@example.com", "eva@example.net")).await;
    for (query, count) in [("", 2), ("channel=team", 2), ("channel=capture", 0), ("person=luis@example.com", 1), ("team=sales", 2)]
    {
        let counts = get(&router, &format!("/api/v1/messages/counts?{query}")).await.json();
        assert_eq!((&counts["recipients"]["queued"], &counts["total"]), (&count.into(), &count.into()), "{query}: {counts}");
    }
    let got = get(&router, "/api/v1/messages/counts?subject=x&tag.a=b&team=none").await;
    let errors = got.problem(422, "validation_failed")["errors"].clone();
    assert_eq!(errors.as_array().unwrap().len(), 3, "{errors}");
}

#[tokio::test]
async fn a_message_is_held_released_and_cancelled_as_far_as_the_state_allows() {
    let (_fake, router) = local();
    let id = submitted(&router).await;
    let path = |verb: &str| format!("/api/v1/messages/{id}/{verb}");
    post(&router, &path("release")).await.problem(409, "message_not_releasable");
    assert_eq!(post(&router, &path("hold")).await.json()["moved"][0], "luis@example.org");
    let shown = get(&router, &format!("/api/v1/messages/{id}")).await.json();
    assert_eq!((shown["status"].as_str(), shown["waiting_on"]["kind"].as_str()), (Some("held"), Some("person")));
    assert_eq!(post(&router, &path("release")).await.status, 200);
    post(&router, &format!("{}?recipient=eva@example.net", path("cancel"))).await.problem(422, "validation_failed");
    post(&router, &format!("{}?why=so", path("cancel"))).await.problem(422, "validation_failed");
    assert_eq!(post(&router, &format!("{}?recipient=luis@example.org", path("cancel"))).await.status, 200);
    let got = post(&router, &path("cancel")).await;
    assert!(got.problem(409, "message_not_cancellable")["detail"].as_str().unwrap().contains("cancelled"));
}

#[tokio::test]
async fn queue_status_and_channels_are_shown_without_secrets() {
    let (_fake, router) = local();
    submitted(&router).await;
    let queue = get(&router, "/api/v1/queue").await.json();
    assert_eq!((queue[0]["channel"].as_str(), queue[0]["queued"].as_u64()), (Some("team"), Some(1)));
    let status = get(&router, "/api/v1/status").await.json();
    assert!(status["notices_trouble"].as_str().unwrap().contains("names channel 'gone', and there is none; add it"));
    assert_eq!((status["accepted"].as_u64(), status["open_messages"].as_u64()), (Some(1), Some(1)));
    let sum: u64 = status["recipients"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(sum, 1);
    assert!(status["refusing"].is_null());
    let channels = get(&router, "/api/v1/channels").await.json();
    assert_eq!(channels.as_array().unwrap().len(), 2);
    let team = get(&router, "/api/v1/channels/team").await.json();
    assert_eq!((team["owner"].as_str(), team["next_hop"].as_str()), (Some("team:sales"), Some("smtp.example.net:587")));
    for path in ["queue", "status", "channels", "channels/team"] {
        get(&router, &format!("/api/v1/{path}?x=1")).await.problem(422, "validation_failed");
    }
}

#[tokio::test]
async fn a_channel_is_paused_resumed_and_tried() {
    let (fake, router) = local();
    let id = submitted(&router).await;
    assert_eq!(post(&router, "/api/v1/channels/team/pause").await.json()["state"], "paused");
    let shown = get(&router, &format!("/api/v1/messages/{id}")).await.json();
    assert_eq!(shown["waiting_on"]["kind"], "channel");
    let status = get(&router, "/api/v1/status").await.json();
    assert_eq!(status["channels_in_trouble"][0]["channel"], "team");
    assert_eq!(post(&router, "/api/v1/channels/team/resume").await.json()["state"], "unverified");
    let report = post(&router, "/api/v1/channels/team/test?from=ana@example.com").await.json();
    assert_eq!((report["ok"].as_bool(), report["steps"][0]["step"].as_str()), (Some(true), Some("connect")));
    assert_eq!(fake.tested(), "ana@example.com");
    post(&router, "/api/v1/channels/team/test?from=nowhere").await.problem(422, "validation_failed");
}

#[tokio::test]
async fn a_directory_is_applied_as_json_and_nothing_else() {
    let (fake, router) = local();
    let json = ("content-type", "application/json");
    let path = "/api/v1/apply?dry_run=true&prune=false";
    let got = ask(&router, Method::POST, path, &[json], "{\"teams\": []}").await;
    assert_eq!((got.status.as_u16(), got.json()["dry_run"].as_bool()), (200, Some(true)));
    assert_eq!(fake.applied().unwrap(), serde_json::json!({ "teams": [] }));
    ask(&router, Method::POST, path, &[json], "{\"teams\": [").await.problem(400, "malformed_json");
    ask(&router, Method::POST, path, &[MAIL], "{}").await.problem(415, "unsupported_media_type");
    ask(&router, Method::POST, "/api/v1/apply?dry_run=perhaps", &[json], "{}").await.problem(422, "validation_failed");
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served() {
    let (fake, router) = local();
    assert_eq!(get(&router, "/healthz").await.text, "ok\n");
    assert_eq!(get(&router, "/readyz").await.status, 200);
    assert!(get(&router, "/metrics").await.text.contains("# EOF"));
    fake.close();
    assert_eq!(get(&router, "/healthz").await.status, 200);
    let got = get(&router, "/readyz").await;
    got.problem(503, "dependency_unavailable");
    assert!(got.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_store_that_is_closed_answers_503_and_not_202() {
    let (fake, router) = local();
    fake.close();
    submit(&router, "", &message("ana@example.com", "luis@example.org")).await.problem(503, "dependency_unavailable");
}

async fn by_token(router: &Router, method: Method, path: &str, token: &str, text: &str) -> Got {
    let bearer = format!("Bearer {token}");
    ask(router, method, path, &[("authorization", &bearer), MAIL], text).await
}

#[tokio::test]
async fn over_the_network_nothing_is_there_without_a_token_that_is_known() {
    let (_fake, router) = public();
    let text = message("ana@example.com", "luis@example.org");
    for headers in [vec![MAIL], vec![MAIL, ("authorization", "Basic YTpi")], vec![MAIL, ("authorization", "Bearer wrong")]] {
        let got = ask(&router, Method::POST, "/api/v1/messages/raw", &headers, &text).await;
        got.problem(401, "unauthenticated");
        assert!(got.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        assert!(!got.text.contains("wrong"));
    }
    get(&router, "/api/v1/messages/msg_00000000000000000000000000").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_token_sees_the_messages_of_its_person_and_no_others() {
    let (fake, router) = public();
    let text = message("ana@example.com", "luis@example.org");
    let got = by_token(&router, Method::POST, "/api/v1/messages/raw", ANA_TOKEN, &text).await;
    assert_eq!(got.status, 202, "{}", got.text);
    assert_eq!(fake.last_person(), "ana@example.com");
    let path = format!("/api/v1/messages/{}", got.json()["id"].as_str().unwrap());
    assert_eq!(by_token(&router, Method::GET, &path, ANA_TOKEN, "").await.status, 200);
    assert_eq!(by_token(&router, Method::GET, "/api/v1/messages?limit=100", ANA_TOKEN, "").await.status, 200);
    by_token(&router, Method::GET, "/api/v1/messages?limit=101", ANA_TOKEN, "").await.problem(422, "validation_failed");
    let other = by_token(&router, Method::GET, &path, LUIS_TOKEN, "").await;
    let none = by_token(&router, Method::GET, "/api/v1/messages/msg_00000000000000000000000000", LUIS_TOKEN, "").await;
    assert_eq!(other.problem(404, "message_not_found")["title"], none.problem(404, "message_not_found")["title"]);
}

#[tokio::test]
async fn a_token_cannot_act_as_somebody_else() {
    let (_fake, router) = public();
    let text = message("ana@example.com", "luis@example.org");
    let got = by_token(&router, Method::POST, "/api/v1/messages/raw?person=ana@example.com", LUIS_TOKEN, &text).await;
    got.problem(422, "validation_failed");
}

#[tokio::test]
async fn over_the_network_what_concerns_everybody_is_not_there() {
    let (_fake, router) = public();
    assert_eq!(get(&router, "/healthz").await.status, 200);
    assert_eq!(get(&router, "/readyz").await.status, 200);
    for path in ["/metrics", "/api/v1/queue", "/api/v1/status", "/api/v1/captured"] {
        by_token(&router, Method::GET, path, ANA_TOKEN, "").await.problem(404, "not_found");
    }
    let posts = ["apply", "channels/team/test", "channels/team/pause", "channels/team/resume"];
    for path in posts {
        by_token(&router, Method::POST, &format!("/api/v1/{path}"), ANA_TOKEN, "").await.problem(404, "not_found");
    }
}
