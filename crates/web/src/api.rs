//! The handlers, by what they are about.

pub(crate) mod body;
pub(crate) mod channels;
pub(crate) mod instance;
pub(crate) mod messages;
pub(crate) mod steer;
pub(crate) mod submit;

use crate::problem::Problem;
use mail::MessageId;

/// The query of a request, in order.
pub(crate) type Pairs = axum::extract::Query<Vec<(String, String)>>;

/// The id in a path; what is no id is no message either.
pub(crate) fn message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| Problem::no_message(text))
}
