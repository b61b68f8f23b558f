//! Backups over the local socket, and letting go on what was restored.
use super::gateway::{ANA_TOKEN, Fake, message};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;
use tower::ServiceExt;
use web::Surface;

async fn ask(router: &Router, method: Method, path: &str, kind: &str, body: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(format!("/api/v1{path}")).header("content-type", kind);
    let request = request.header("authorization", format!("Bearer {ANA_TOKEN}"));
    let response = router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn begin(router: &Router, body: &str) -> (u16, Value) {
    ask(router, Method::POST, "/backup", "application/json", body).await
}

#[tokio::test]
async fn a_backup_is_begun_once_and_looked_at_until_it_has_ended() {
    let fake = Fake::new();
    let local = Surface::new(fake.shared()).local();
    assert_eq!(ask(&local, Method::GET, "/backup", "", "").await.0, 404);
    for (body, status) in [("{}", 422), (r#"{"folder": "relative"}"#, 422), (r#"{"folder": "/x", "more": 1}"#, 422), ("x", 400)] {
        assert_eq!(begin(&local, body).await.0, status, "{body}");
    }
    let (status, begun) = begin(&local, r#"{"folder": "/backups/today"}"#).await;
    assert_eq!((status, begun["state"].as_str(), begun["folder"].as_str()), (202, Some("running"), Some("/backups/today")));
    let (status, problem) = begin(&local, r#"{"folder": "/backups/other"}"#).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("backup_running")));
    assert_eq!(ask(&local, Method::GET, "/backup", "", "").await, (200, begun));
}

#[tokio::test]
async fn backups_and_what_was_restored_are_nothing_for_the_network() {
    let fake = Fake::new();
    let public = Surface::new(fake.shared()).public();
    assert_eq!(begin(&public, r#"{"folder": "/backups/today"}"#).await.0, 404);
    assert_eq!(ask(&public, Method::GET, "/backup", "", "").await.0, 404);
    assert_eq!(ask(&public, Method::POST, "/restored/release", "", "").await.0, 404);
    let forget = r#"{"address": "luis@example.org"}"#;
    assert_eq!(ask(&public, Method::POST, "/forget", "application/json", forget).await.0, 404);
}

#[tokio::test]
async fn what_was_restored_is_released_at_once_and_what_a_person_holds_is_not() {
    let fake = Fake::new();
    let local = Surface::new(fake.shared()).local();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let text = message("ana@example.com", "luis@example.org");
        let (status, answer) = ask(&local, Method::POST, "/messages/raw", "message/rfc822", &text).await;
        assert_eq!(status, 202, "{answer}");
        ids.push(answer["id"].as_str().unwrap().to_owned());
    }
    fake.hold(&ids[0], "restored from the backup of 2026-11-25T08:00:00Z; perhaps it was sent since").await;
    fake.hold(&ids[1], "restored from the backup of 2026-11-25T08:00:00Z; perhaps it was sent since").await;
    fake.hold(&ids[2], "looked at").await;
    let release = async |query: &str| ask(&local, Method::POST, &format!("/restored/release{query}"), "", "").await;
    assert_eq!(release("?channel=none").await.0, 404);
    assert_eq!(release("?chanel=main").await.0, 422);
    let (status, released) = release("").await;
    assert_eq!((status, &released["messages"], &released["recipients"]), (200, &2.into(), &2.into()));
    let state = async |id: &str| ask(&local, Method::GET, &format!("/messages/{id}"), "", "").await.1["status"].clone();
    assert_eq!((state(&ids[0]).await, state(&ids[2]).await), ("queued".into(), "held".into()));
    assert_eq!(release("").await.1["messages"], 0, "again there is nothing");
}

#[tokio::test]
async fn a_release_goes_on_when_whoever_asked_has_gone() {
    let fake = Fake::new();
    let local = Surface::new(fake.shared()).local();
    let text = message("ana@example.com", "luis@example.org");
    let (_, answer) = ask(&local, Method::POST, "/messages/raw", "message/rfc822", &text).await;
    let id = answer["id"].as_str().unwrap().to_owned();
    fake.hold(&id, "restored from the backup of 2026-11-25T08:00:00Z; perhaps it was sent since").await;
    tokio::select! {
        biased;
        answer = ask(&local, Method::POST, "/restored/release", "", "") => panic!("nobody waits for {answer:?}"),
        () = std::future::ready(()) => {}
    }
    let done = async {
        while fake.released().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.expect("its channel is told");
    assert_eq!(ask(&local, Method::GET, &format!("/messages/{id}"), "", "").await.1["status"], "queued");
}

#[tokio::test]
async fn an_address_to_be_forgotten_is_one() {
    let fake = Fake::new();
    let local = Surface::new(fake.shared()).local();
    let forget = async |body: &str| ask(&local, Method::POST, "/forget", "application/json", body).await;
    let (status, forgotten) = forget(r#"{"address": "luis@example.org", "with_suppressions": true}"#).await;
    assert_eq!((status, &forgotten["suppressions_removed"], &forgotten["dry_run"]), (200, &true.into(), &false.into()));
    for body in [r#"{"address": "luis"}"#, r#"{"addres": "luis@example.org"}"#, "{}"] {
        assert_eq!(forget(body).await.0, 422, "{body}");
    }
}
