//! Why calls stay in the foreground, for the log.

use super::rule::Rule;
use crate::offload::StayReason;

pub(super) static UNIDENTIFIED: StayReason =
    StayReason::new("its request names no user who could see the task");
pub(super) static EXCLUDED: StayReason = StayReason::new("the service excludes it");
pub(super) static TASK_ROUTES: StayReason = StayReason::new("it reads the tasks");
/// The body is watched.
pub(super) static BODY_UNREAD: StayReason = StayReason::new("its request body has not been read to its end");

static CONNECTION: StayReason = StayReason::new("its client waits for a connection");
static HEAD: StayReason = StayReason::new("it is a HEAD request");
static EVENT_STREAM: StayReason = StayReason::new("its client reads server-sent events");
static GRPC: StayReason = StayReason::new("its client reads gRPC");
static BODY: StayReason =
    StayReason::new("its client may still be sending the request body, which is not watched");

impl Rule {
    pub(super) fn reason(self) -> &'static StayReason {
        match self {
            Self::Connection => &CONNECTION,
            Self::Head => &HEAD,
            Self::EventStream => &EVENT_STREAM,
            Self::Grpc => &GRPC,
            Self::Body => &BODY,
        }
    }
}
