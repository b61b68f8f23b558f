//! Forgetting an address in mail that has ended. For the local socket only.

use super::steer::LOCAL_ADMIN;
use super::{Pairs, body};
use crate::gateway::Forget;
use crate::params::Params;
use crate::problem::Problem;
use crate::surface::Surface;
use crate::view::{FieldError, ForgetRequest, Forgotten};
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use smtp::Mailbox;

const MAX_REQUEST: u64 = 16 * 1024;

pub(crate) async fn forget(
    State(surface): State<Surface>,
    Query(pairs): Pairs,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Forgotten>, Problem> {
    Params::new(pairs).finish()?;
    body::expect(&headers, "application/json")?;
    let asked: ForgetRequest = body::json(&body::read(&headers, body, MAX_REQUEST).await?)?;
    let address = Mailbox::parse(&asked.address).map_err(|_| {
        let detail = format!("'{}' is no mail address", asked.address);
        Problem::invalid(vec![FieldError { pointer: "/address".to_owned(), code: "invalid".to_owned(), detail }])
    })?;
    let (with_suppressions, dry_run) = (asked.with_suppressions, asked.dry_run);
    let forget = Forget { address, with_suppressions, dry_run, by: LOCAL_ADMIN.to_owned() };
    Ok(Json(surface.gateway().forget(forget).await?))
}
