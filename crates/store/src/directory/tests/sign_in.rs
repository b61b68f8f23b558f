#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn a_token_signs_in_its_person_at_its_doors_alone() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let verify = |user: &str, secret: &str, surface| bench.store.verify(user, secret.as_bytes(), surface).is_ok();
    assert!(verify("ana@example.com", TOKEN, Surface::Smtp));
    assert!(verify("ANA@Example.com", TOKEN, Surface::Smtp));
    assert!(!verify("ana@example.com", TOKEN, Surface::Http));
    assert!(!verify("ana@example.com", "wrong", Surface::Smtp));
    assert!(!verify("luis@example.com", TOKEN, Surface::Smtp));
    assert!(!verify("ana@example.com", "", Surface::Smtp));
    assert!(bench.store.verify_bearer(TOKEN.as_bytes()).is_err());
}

#[test]
fn a_made_token_is_shown_once_and_works() {
    let bench = Bench::new();
    let mut desired = sample();
    desired.tokens[0].secret = None;
    let made = bench.apply(&desired).unwrap().made_tokens;
    let secret = std::str::from_utf8(made[0].secret.expose()).unwrap().to_owned();
    assert!(secret.starts_with("sdr_") && secret.len() > 60, "{secret}");
    assert!(bench.store.verify("ana@example.com", secret.as_bytes(), Surface::Smtp).is_ok());
    assert!(bench.apply(&desired).unwrap().made_tokens.is_empty());
}

#[test]
fn what_is_switched_off_signs_nobody_in() {
    for switch_off in ["tokens", "people"] {
        let bench = Bench::new();
        bench.apply(&sample()).unwrap();
        bench.store.lock().execute(&format!("UPDATE {switch_off} SET disabled = 1"), []).unwrap();
        let Bench { folder, store } = bench;
        drop(store);
        let store = open(folder.path(), "key").unwrap();
        assert_eq!(store.verify("ana@example.com", TOKEN.as_bytes(), Surface::Smtp), Err(Denied), "{switch_off}");
    }
}

#[test]
fn a_bearer_needs_a_token_for_the_api() {
    let bench = Bench::new();
    let mut desired = sample();
    desired.tokens[0].surfaces = vec!["api".into()];
    bench.apply(&desired).unwrap();
    let person = bench.store.directory().person_by_address("ana@example.com").unwrap().id;
    assert_eq!(bench.store.verify_bearer(TOKEN.as_bytes()).unwrap().person, person);
    assert_eq!(bench.store.verify_bearer(b"sdr_00000000_0"), Err(Denied));
    assert_eq!(bench.store.verify("ana@example.com", TOKEN.as_bytes(), Surface::Smtp), Err(Denied));
}

#[test]
fn a_new_secret_ends_the_old_one() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let mut desired = sample();
    let renewed = format!("{TOKEN}-renewed");
    desired.tokens[0].secret = Some(Secret::new(renewed.clone()));
    bench.apply(&desired).unwrap();
    assert!(bench.store.verify("ana@example.com", TOKEN.as_bytes(), Surface::Smtp).is_err());
    assert!(bench.store.verify("ana@example.com", renewed.as_bytes(), Surface::Smtp).is_ok());
}

#[test]
fn a_token_is_made_for_a_person_under_a_name_of_its_own() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let make = |person, name| bench.store.create_token(person, name, &[TokenSurface::Api], "test", Timestamp(2));
    let secret = make("ana@example.com", "script").unwrap();
    assert!(bench.store.verify_bearer(secret.expose()).is_ok());
    assert!(bench.store.verify("ana@example.com", secret.expose(), Surface::Smtp).is_err());
    assert!(make("Ana@example.com", "script").unwrap_err().to_string().contains("choose another"));
    assert!(make("nobody@example.com", "script").unwrap_err().to_string().contains("there is no person"));
}
