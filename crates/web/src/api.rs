//! The handlers, by what they are about.

pub(crate) mod backup;
pub(crate) mod body;
pub(crate) mod channels;
pub(crate) mod estimates;
pub(crate) mod forget;
pub(crate) mod instance;
pub(crate) mod lists;
pub(crate) mod messages;
pub(crate) mod retry;
pub(crate) mod steer;
pub(crate) mod submit;
pub(crate) mod suppressions;

use crate::problem::Problem;
use crate::surface::{Caller, Surface};
use mail::MessageId;

/// The query of a request, in order.
pub(crate) type Pairs = axum::extract::Query<Vec<(String, String)>>;

/// The id in a path; what is no id is no message either.
pub(crate) fn message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| Problem::no_message(text))
}

/// Who wishes something, for the record.
pub(crate) fn by(surface: &Surface, caller: &Caller) -> String {
    match caller {
        Caller::Local => steer::LOCAL_ADMIN.to_owned(),
        Caller::Token(principal) => {
            let directory = surface.gateway().directory();
            directory.person(principal.person).map_or_else(|| principal.person.to_string(), |person| person.email.to_string())
        }
    }
}
