//! Trying again what was given up: `POST /messages/{id}/retry`.

use super::messages::visible;
use super::steer::named;
use super::{Pairs, suppressions};
use crate::gateway::{Principal, Repeat};
use crate::params::Params;
use crate::problem::Problem;
use crate::surface::{Caller, Surface};
use crate::view::Retried;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use mail::RecipientState;
use smtp::ReversePath;
use store::{MessageView, Party, RecipientView};

/// A new message to the recipients that failed, expired or were cancelled, or were suppressed and are on the list no
/// more: the same bytes by the same channel, if its sender may still use it.
pub(crate) async fn retry(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
    Query(pairs): Pairs,
) -> Result<(StatusCode, Json<Retried>), Problem> {
    let mut params = Params::new(pairs);
    let message = visible(&surface, &caller, &text).await?;
    let places = named(&mut params, &message);
    params.finish()?;
    let party = Party::of(message.team, message.person);
    let queue = surface.gateway().queue();
    let again = to_be_tried(&message, &places, |address| queue.is_suppressed(party, &suppressions::key(address)))?;
    let addresses: Vec<String> = again.iter().map(|recipient| recipient.address.clone()).collect();
    let places: Vec<usize> = again.iter().map(|recipient| recipient.index as usize).collect();
    let id = message.id;
    let kept = surface.read(move |queue| Ok(queue.raw(id)?.zip(queue.envelope(id)?))).await?;
    let (body, envelope) = kept.ok_or_else(|| {
        Problem::new(410, "body_gone", format!("the bytes of {text} are no longer kept, so it cannot be tried again; send it anew"))
    })?;
    let recipients = places.iter().filter_map(|place| envelope.recipients.get(*place)).cloned().collect();
    let repeat = Repeat {
        recipients,
        reverse_path: envelope.reverse_path,
        ret: envelope.ret,
        envid: envelope.envid,
        body,
        ..repeat(&surface, &caller, message)?
    };
    let channel = repeat.channel.clone();
    let receipt = surface.gateway().repeat(repeat).await?;
    let retried =
        Retried { id: receipt.id.to_string(), retry_of: text, channel, recipients: addresses, replayed: receipt.replayed };
    Ok((StatusCode::ACCEPTED, Json(retried)))
}

/// The recipients that are tried again: of those asked for, or of all.
fn to_be_tried<'a>(
    message: &'a MessageView,
    places: &[u32],
    is_listed: impl Fn(&str) -> bool,
) -> Result<Vec<&'a RecipientView>, Problem> {
    let given_up = |one: &&RecipientView| match one.state {
        RecipientState::Failed | RecipientState::Expired | RecipientState::Cancelled => true,
        RecipientState::Suppressed => !is_listed(&one.address),
        RecipientState::Queued
        | RecipientState::Leased
        | RecipientState::Held
        | RecipientState::Sent
        | RecipientState::Captured => false,
    };
    let wanted = || message.recipients.iter().filter(|one| places.is_empty() || places.contains(&one.index));
    let refuse = |recipients: Vec<&RecipientView>| {
        let states: Vec<String> = recipients.iter().map(|one| format!("{} is {}", one.address, one.state.name())).collect();
        let is_suppressed = recipients.iter().any(|one| one.state == RecipientState::Suppressed);
        let list = if is_suppressed { "; take suppressed addresses off the list first (sendero suppression remove)" } else { "" };
        let detail = format!("only what failed, expired or was cancelled is tried again: {}{list}", states.join(", "));
        Problem::new(409, "message_not_retryable", detail)
    };
    let others: Vec<&RecipientView> = wanted().filter(|one| !given_up(one)).collect();
    if !places.is_empty() && !others.is_empty() {
        return Err(refuse(others));
    }
    let again: Vec<&RecipientView> = wanted().filter(given_up).collect();
    if again.is_empty() { Err(refuse(others)) } else { Ok(again) }
}

/// What does not depend on the recipients. Over the local socket it is done with the rights of whose message it is.
fn repeat(surface: &Surface, caller: &Caller, message: MessageView) -> Result<Repeat, Problem> {
    let (principal, door) = match caller {
        Caller::Local => (Principal { person: message.person, token: None }, mail::Surface::Cli),
        Caller::Token(principal) => (*principal, mail::Surface::Http),
    };
    let directory = surface.gateway().directory();
    let channel = directory.channel(message.channel).map(|channel| channel.name.clone());
    let channel = channel.ok_or_else(|| {
        Problem::new(409, "channel_gone", "the channel of this message is no longer there; send it anew by another one")
    })?;
    Ok(Repeat {
        principal,
        surface: door,
        of: message.id,
        channel,
        lane: message.lane,
        lane_reason: message.lane_reason,
        tags: message.tags,
        reverse_path: ReversePath::Null,
        recipients: Vec::new(),
        ret: None,
        envid: None,
        body: store::Body::default(),
    })
}
