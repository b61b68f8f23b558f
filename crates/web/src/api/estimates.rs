//! When mail that is not sent yet would be through: `POST /estimates`.

use super::submit::{field, whose};
use super::{Pairs, body};
use crate::gateway::Principal;
use crate::params::Params;
use crate::problem::Problem;
use crate::show::Glance;
use crate::surface::{Caller, Surface};
use crate::view::{Estimate, EstimateRequest, FieldError};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use mail::header::Authors;
use mail::resolve::{Request, resolve};
use mail::{ChannelId, Directory, PersonId};
use smtp::{Mailbox, ReversePath};

const MAX_REQUEST: u64 = 16 * 1024;
const USUAL_BYTES: u64 = 10_000;
/// More of anything, or more recipients of all messages together, is no estimate but a mistake.
const MOST: u64 = 1_000_000_000;

pub(crate) async fn estimate(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Query(pairs): Pairs,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Estimate>, Problem> {
    Params::new(pairs).finish()?;
    body::expect(&headers, "application/json")?;
    let asked: EstimateRequest = body::json(&body::read(&headers, body, MAX_REQUEST).await?)?;
    check(&asked)?;
    let by = caller.clone();
    let estimate = surface.look(&caller, move |glance| {
        let (channel, person) = way(glance, &by, &asked)?;
        glance.estimate(channel, person, &asked)
    });
    Ok(Json(estimate.await?))
}

fn check(asked: &EstimateRequest) -> Result<(), Problem> {
    let numbers = [("/messages", Some(asked.messages)), ("/recipients", asked.recipients), ("/bytes", asked.bytes)];
    let wrong = numbers.into_iter().filter(|(_, number)| number.is_some_and(|number| !(1..=MOST).contains(&number)));
    let mut errors: Vec<FieldError> = wrong
        .map(|(pointer, _)| FieldError {
            pointer: pointer.to_owned(),
            code: "out_of_range".to_owned(),
            detail: format!("'{}' is a number from 1 to {MOST}", &pointer[1..]),
        })
        .collect();
    if errors.is_empty() && asked.messages.saturating_mul(asked.recipients_each()) > MOST {
        let detail = format!("'messages' times 'recipients' is at most {MOST}");
        errors.push(FieldError { pointer: "/recipients".to_owned(), code: "out_of_range".to_owned(), detail });
    }
    if asked.channel.is_some() == asked.from.is_some() {
        let detail = "say either 'channel', or 'from' for the channel by which that address sends".to_owned();
        errors.push(FieldError { pointer: "/channel".to_owned(), code: "conflict".to_owned(), detail });
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

/// The channel that was named, or the one that mail from that address takes; and who would send, where that is known.
fn way(glance: &Glance<'_>, caller: &Caller, asked: &EstimateRequest) -> Result<(ChannelId, Option<PersonId>), Problem> {
    if let Some(name) = &asked.channel {
        let person = match caller {
            Caller::Token(principal) => Some(principal.person),
            Caller::Local => None,
        };
        return glance.known_channel(name).map(|channel| (channel.id, person)).ok_or_else(|| Problem::no_channel(name));
    }
    let from = asked.from.as_deref().unwrap_or_default();
    let author = Mailbox::parse(from).map_err(|error| field("/from", format!("'{from}': {error}")))?;
    resolved(&glance.directory(), caller, author)
}

fn resolved(directory: &Directory, caller: &Caller, author: Mailbox) -> Result<(ChannelId, Option<PersonId>), Problem> {
    let Principal { person, token } = match caller {
        Caller::Token(principal) => *principal,
        Caller::Local => whose(directory, None, &author)?,
    };
    let reverse_path = ReversePath::Mailbox(author.clone());
    let authors = Authors { from: vec![author], sender: None, resent: Vec::new() };
    let request = Request { person, token, authors: &authors, reverse_path: &reverse_path, channel: None };
    resolve(directory, &request).map(|route| (route.channel, Some(person))).map_err(|refusal| Problem::from(&refusal))
}

impl EstimateRequest {
    pub(crate) fn recipients_each(&self) -> u64 {
        self.recipients.unwrap_or(1)
    }

    pub(crate) fn bytes_each(&self) -> u64 {
        self.bytes.unwrap_or(USUAL_BYTES)
    }
}
