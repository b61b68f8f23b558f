//! Recipients whose address is on the list: nothing is sent to them, and somebody is told.

use super::world::Noon;
use super::world::*;
use crate::accept::{Intake, Suppressed};
use mail::Surface;
use std::sync::{Arc, Mutex};
use store::NewMessage;

#[derive(Default)]
struct Teller {
    logged: Mutex<Vec<NewMessage>>,
}

impl Suppressed for Teller {
    fn report(&self, message: &NewMessage) -> Option<NewMessage> {
        Some(NewMessage { surface: Surface::Gateway, suppressed: Vec::new(), ..message.clone() })
    }

    fn log(&self, message: &NewMessage) {
        self.logged.lock().unwrap().push(message.clone());
    }
}

#[tokio::test]
async fn the_report_about_an_address_on_the_list_is_accepted_with_the_message_and_told_once() {
    let (world, teller) = (world(), Arc::new(Teller::default()));
    let people = Arc::clone(world.intake.people());
    let intake = Intake::new(Arc::clone(&world.queue) as _, people, world.intake.settings().clone(), Arc::new(Noon));
    let intake = intake.telling(Arc::clone(&teller) as _);
    let mut message = incoming(Surface::Http, MESSAGE);
    intake.accept(message.clone()).await.unwrap();
    assert_eq!((world.queue.kept().len(), teller.logged.lock().unwrap().len()), (1, 0));
    message.envelope = envelope("ana@example.com", &["luis@example.org", "gone@example.org"]);
    let receipt = intake.accept(message.clone()).await.unwrap();
    let kept = world.queue.kept();
    assert_eq!((kept[1].id, &kept[1].suppressed[..], kept[2].surface), (receipt.id, &[1][..], Surface::Gateway));
    assert_eq!(teller.logged.lock().unwrap().len(), 1);
    world.queue.will(Will::Replay(receipt.id));
    intake.accept(message).await.unwrap();
    assert_eq!(teller.logged.lock().unwrap().len(), 1, "it was told before");
}
