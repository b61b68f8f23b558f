//! The real directory at the door.

use super::world::Noon;
use super::world::*;
use crate::accept::{Intake, Principal};
use crate::people::People;
use mail::{Surface, Timestamp};
use std::sync::Arc;
use store::directory::{ApplyOptions, DesiredDirectory, DesiredPerson, DesiredToken, DirectoryStore};
use store::seal::{Sealer, Secret};

const TOKEN_SECRET: &str = "a-token-of-more-than-22-characters";

#[tokio::test]
async fn whom_the_directory_lets_in_may_send_by_its_channels_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let sealer = Sealer::open(&folder.path().join("master.key"), true).unwrap();
    let directory = Arc::new(DirectoryStore::open(&folder.path().join("directory.sqlite"), Arc::new(sealer)).unwrap());
    directory.ensure_capture_default(Timestamp(1)).unwrap();
    let desired = DesiredDirectory {
        people: vec![DesiredPerson { email: "ana@example.com".into(), ..DesiredPerson::default() }],
        tokens: vec![DesiredToken {
            name: "laptop".into(),
            person: "ana@example.com".into(),
            secret: Some(Secret::new(TOKEN_SECRET)),
            surfaces: vec!["smtp".into()],
            ..DesiredToken::default()
        }],
        ..DesiredDirectory::default()
    };
    directory.apply(&desired, &ApplyOptions { dry_run: false, prune: false, by: "test".into(), now: Timestamp(2) }).unwrap();

    let people: Arc<dyn People> = directory;
    let ana = people.verify("Ana@example.com", TOKEN_SECRET.as_bytes(), Surface::Smtp).expect("her own token");
    assert_eq!(people.verify("ana@example.com", b"another-token-of-22-characters", Surface::Smtp), None);
    assert_eq!(people.verify("luis@example.com", TOKEN_SECRET.as_bytes(), Surface::Smtp), None);
    assert_eq!(people.verify("ana@example.com", TOKEN_SECRET.as_bytes(), Surface::Http), None);

    let world = world();
    let intake = Intake::new(Arc::clone(&world.queue) as _, people, world.intake.settings().clone(), Arc::new(Noon));
    let mut message = incoming(Surface::Smtp, MESSAGE);
    message.principal = ana;
    intake.accept(message.clone()).await.unwrap();
    assert_eq!((world.queue.last().person, world.queue.last().token), (ana.person, ana.token));
    message.principal = Principal { person: mail::PersonId(ana.person.0 + 1), token: None };
    assert_eq!(intake.accept(message).await.unwrap_err().code(), "sender_not_allowed");
}
