//! What is told of recipients whose address is on the list: they end where the message is accepted, without an attempt.

use super::report::TARGET;
use super::reports::{Ended, report};
use crate::settings::Notices;
use aws_lc_rs::digest;
use intake::log::address;
use mail::retry::RetrySchedule;
use mail::{Diagnostic, Move};
use std::sync::Arc;
use store::directory::DirectoryStore;
use store::{Idempotency, Lease, LeasedRecipient, NewMessage, Settled, Settlement, Spending};

/// Tells submitters and the delivery log.
pub struct Suppressed {
    /// Our name, in reports.
    pub hostname: String,
    /// How they leave.
    pub notices: Option<Notices>,
    /// Who is who.
    pub directory: Arc<DirectoryStore>,
    /// Addresses in the delivery log: whole, or hashed.
    pub hash_addresses: bool,
}

impl intake::accept::Suppressed for Suppressed {
    fn report(&self, message: &NewMessage) -> Option<NewMessage> {
        let directory = self.directory.directory();
        let made = report(&Ended {
            hostname: &self.hostname,
            notices: self.notices.as_ref(),
            directory: &directory,
            schedule: &RetrySchedule::default(),
            row: directory.channel(message.channel)?,
            lease: &lease(message),
            body: &message.body,
            settlement: &settlement(message),
            due: message.due,
            offers_dsn: false,
        });
        match made {
            Ok(report) => Some(NewMessage { idempotency: idempotency(message), ..report }),
            Err(silence) => {
                if let Some(reason) = silence.reason() {
                    tracing::warn!(queue.id = %message.id, reason, "no report to the submitter");
                }
                None
            }
        }
    }

    fn log(&self, message: &NewMessage) {
        let directory = self.directory.directory();
        let channel = directory.channel(message.channel).map_or("", |channel| &channel.name);
        let shown = |plain: String| address(self.hash_addresses, plain);
        let from = shown(message.envelope.reverse_path.to_string());
        for index in &message.suppressed {
            let Some(recipient) = message.envelope.recipients.get(*index as usize) else { continue };
            tracing::event!(
                target: TARGET,
                tracing::Level::INFO,
                queue.id = %message.id,
                from = %from,
                to = %shown(recipient.path.to_string()),
                channel.name = channel,
                relay = "",
                status = "suppressed",
                attempt = 0,
                waited_ms = 0,
                elapsed_ms = 0,
                dsn = "",
                reply = %said(),
            );
        }
    }
}

/// Why nothing is sent.
fn said() -> Diagnostic {
    Diagnostic::own(Some((5, 1, 0).into()), "the address is on the list of addresses that are not written to")
}

fn lease(message: &NewMessage) -> Lease {
    Lease {
        message: message.id,
        channel: message.channel,
        person: message.person,
        team: message.team,
        token: message.token,
        surface: message.surface,
        accepted_at: message.at,
        lane: message.lane,
        expires_at: message.expires_at,
        envelope: Arc::new(message.envelope.clone()),
        author: message.author.as_str().into(),
        recipients: message
            .suppressed
            .iter()
            .map(|index| LeasedRecipient { index: *index, attempts: 0, doubts: 0, first_attempt: None })
            .collect(),
        size_bytes: message.body.len(),
    }
}

fn settlement(message: &NewMessage) -> Settlement {
    let settled = |index: &u32| Settled {
        index: *index,
        to: Move::Suppress,
        due: message.due,
        counts: false,
        said: said(),
        cause: None,
        suppress: None,
    };
    Settlement {
        message: message.id,
        channel: message.channel,
        at: message.at,
        relay: String::new(),
        spending: Spending::Uncounted,
        recipients: message.suppressed.iter().map(settled).collect(),
    }
}

/// A submission that is repeated under its key is reported once.
fn idempotency(message: &NewMessage) -> Option<Idempotency> {
    let given = message.idempotency.as_ref()?;
    let mut sum = digest::Context::new(&digest::SHA256);
    sum.update(given.key.as_bytes());
    for recipient in message.suppressed.iter().filter_map(|index| message.envelope.recipients.get(*index as usize)) {
        sum.update(format!("\n{}", recipient.path).as_bytes());
    }
    let key = sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Some(Idempotency { key: format!("report of {key}"), ..given.clone() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use mail::{BodyType, ChannelId, Envelope, Lane, MessageId, PersonId, Recipient, Surface, Timestamp};
    use smtp::{ForwardPath, ReversePath};

    fn message(key: &str, suppressed: &[u32]) -> NewMessage {
        let to = |address: &str| Recipient::new(ForwardPath::parse(&format!("<{address}>")).unwrap());
        NewMessage {
            id: MessageId::new(Timestamp(1), [1; 10]),
            at: Timestamp(1),
            due: Timestamp(1),
            person: PersonId(1),
            team: None,
            token: None,
            surface: Surface::Http,
            channel: ChannelId(1),
            lane: Lane::Normal,
            lane_reason: "default".into(),
            retry_of: None,
            suppressed: suppressed.to_vec(),
            envelope: Envelope {
                reverse_path: ReversePath::Null,
                recipients: vec![to("luis@example.org"), to("eva@example.org")],
                body: BodyType::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
            },
            from: String::new(),
            author: String::new(),
            subject: String::new(),
            message_id: String::new(),
            tags: Vec::new(),
            idempotency: Some(Idempotency { key: key.into(), fingerprint: [1; 32], parts: false }),
            scheduled_at: None,
            expires_at: None,
            body: store::Body::default(),
        }
    }

    #[test]
    fn a_repeated_submission_is_reported_once_and_another_part_of_it_again() {
        let key = |key, suppressed: &[u32]| idempotency(&message(key, suppressed)).unwrap().key;
        assert_eq!(key("k", &[0]), key("k", &[0]));
        assert_ne!(key("k", &[0]), key("k", &[1]));
        assert_ne!(key("k", &[0]), key("l", &[0]));
        assert_eq!(settlement(&message("k", &[1])).recipients[0].index, 1);
    }
}
