//! What the document says besides the operations.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, Type,
};
use utoipa::{IntoResponses, ToSchema};

use super::problem::{CONTENT_TYPE, ProblemDetails};
use crate::http::{Identity, display_name};

pub(super) const TAG: &str = "background-tasks";

/// Everything but the operations. Without `servers`: a host's own list would get ours added to it.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Background tasks",
        description = "Calls that took too long to wait for go on in the background; here their owner watches them. \
                       Read-only: any other method is answered with 405 and `Allow`. Errors are RFC 9457 problem \
                       details, and no answer may be stored by a cache.",
        version = env!("CARGO_PKG_VERSION"),
        contact(name = "tower-offload", url = "https://docs.rs/tower-offload"),
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags((
        name = TAG,
        description = "Calls that moved to the background: what they are, and how they ended.",
    )),
    components(schemas(ProblemDetails)),
)]
struct ApiDoc;

/// The document that the routes are added to.
pub(super) fn base(security: Option<&Security>) -> OpenApi {
    let mut document = <ApiDoc as utoipa::OpenApi>::openapi();
    if let Some(Security { name, scheme }) = security {
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme(name.clone(), scheme.clone());
    }
    document
}

/// How callers say who they are.
#[derive(Clone)]
pub(super) struct Security {
    pub(super) name: String,
    pub(super) scheme: SecurityScheme,
}

impl Security {
    /// Of an identity that a header carries. `None` for the others: only the host knows how it authenticates.
    pub(super) fn of(identity: &Identity) -> Option<Self> {
        let description = "The id of the user whose tasks are asked for: UTF-8, at most 256 bytes. It is an identity \
                           and no secret, to be set by the trusted gateway that has authenticated the caller; where \
                           clients reach the service directly, anybody can claim any id.";
        let header = display_name(identity.header_name()?);
        let scheme =
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(header, description)));
        // Generated clients have it as a setting's name.
        Some(Self { name: "userId".to_owned(), scheme })
    }
}

/// Makes the operations, which name the default scheme, name this one. Without one they name none, so that what a host's
/// document says for all its operations holds for them too.
pub(super) fn secure(document: &mut OpenApi, security: Option<&Security>) {
    let requirements =
        security.map(|security| vec![SecurityRequirement::new(&security.name, [] as [&str; 0])]);
    for path in document.paths.paths.values_mut() {
        if let Some(operation) = &mut path.get {
            operation.security.clone_from(&requirements);
        }
    }
}

/// The errors that any operation may answer with, in the same words.
pub(super) struct AnyProblem;

impl IntoResponses for AnyProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let unidentified =
            ProblemDetails::unidentified("Say with the header X-User-ID whose tasks you ask for.");
        let unavailable = ProblemDetails::unavailable("The tasks cannot be read just now.");
        let challenge =
            header(Type::String, "How to say whose tasks are asked for; RFC 9110, section 11.6.1.");
        let retry_after = header(Type::Integer, "After how many seconds to ask again.");
        [
            (
                "401",
                problem(&unidentified, "The request does not say whose tasks it asks for.")
                    .header("WWW-Authenticate", challenge),
            ),
            (
                "503",
                problem(&unavailable, "The view that several processes share cannot be read just now.")
                    .header("Retry-After", retry_after),
            ),
        ]
        .map(|(status, response)| (status.to_owned(), response.build().into()))
        .into()
    }
}

fn problem(example: &ProblemDetails, description: &str) -> ResponseBuilder {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ProblemDetails::name())))
        .example(Some(json!(example)));
    ResponseBuilder::new()
        .description(description)
        .header("Cache-Control", header(Type::String, "Always `no-store`."))
        .content(CONTENT_TYPE, content.build())
}

fn header(schema_type: Type, description: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(schema_type);
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}
