use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::header;
use http::request::Parts;

use super::problem::ProblemDetails;
use super::state::Api;
use crate::http::{RequestHead, Unidentified};

impl IntoResponse for Unidentified {
    fn into_response(self) -> Response {
        let detail = self.detail().to_owned();
        let problem = if self.is_malformed() {
            ProblemDetails::bad_request(detail)
        } else {
            ProblemDetails::unidentified(detail)
        };
        let mut response = problem.into_response();
        if let Some(challenge) = self.challenge() {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.clone());
        }
        response
    }
}

/// The id of the user who sends the request. An extractor and not a layer, so that a wrong method is 405 before it
/// is 401.
#[derive(Clone, Debug)]
pub(super) struct UserId(pub(super) Arc<str>);

impl FromRequestParts<Api> for UserId {
    type Rejection = Unidentified;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Unidentified> {
        api.identity.identify(&RequestHead::from(&*parts)).map(Self)
    }
}
