//! What is forgotten of an address, as bytes.

use super::{put_indices, take_indices};
use crate::body::FileId;
use crate::embedded::wire::{Input, put_number, put_option, put_text};
use mail::{MessageId, Timestamp};

/// Ended mail of which an address is forgotten. The address itself is not in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Forgotten {
    /// What stands in the place of the address from now on.
    pub pseudonym: String,
    pub messages: Vec<ForgottenMessage>,
    /// Up to this segment the log may say what is forgotten.
    pub below: u32,
    /// What the journal says of it, in the last record of several.
    pub told: Option<String>,
    pub at: Timestamp,
}

/// One message of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ForgottenMessage {
    pub id: MessageId,
    /// It was from the address.
    pub sender: bool,
    /// The places of the recipients that had it.
    pub recipients: Vec<u32>,
    /// The file of its body.
    pub file: Option<FileId>,
}

pub(super) fn put_forgotten(out: &mut Vec<u8>, forgotten: &Forgotten) {
    put_text(out, &forgotten.pseudonym);
    put_number(out, forgotten.messages.len() as u64);
    for message in &forgotten.messages {
        out.extend_from_slice(&message.id.0);
        out.push(u8::from(message.sender));
        put_indices(out, &message.recipients);
        put_option(out, message.file, |out, file| out.extend_from_slice(&file));
    }
    put_number(out, u64::from(forgotten.below));
    put_option(out, forgotten.told.as_deref(), put_text);
    super::put_time(out, forgotten.at);
}

pub(super) fn take_forgotten(input: &mut Input<'_>) -> Option<Forgotten> {
    let pseudonym = input.text()?.to_owned();
    let count = input.number()?;
    let mut messages = Vec::new();
    for _ in 0..count {
        messages.push(ForgottenMessage {
            id: super::take_id(input)?,
            sender: match input.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            recipients: take_indices(input)?,
            file: input.option(|input| input.fixed(16)?.try_into().ok())?,
        });
    }
    let below = input.small()?;
    let told = input.option(|input| input.text().map(str::to_owned))?;
    Some(Forgotten { pseudonym, messages, below, told, at: super::take_time(input)? })
}
