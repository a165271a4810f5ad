use redis::{ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};

use super::super::{BusError, Result};

/// Reads a value, unless it is an error or of another type.
pub(super) fn decode<T: FromRedisValue>(operation: &'static str, value: Value) -> Result<T> {
    let value = value.extract_error().map_err(|error| BusError::new(operation, error))?;
    redis::from_redis_value(value).map_err(|error| BusError::new(operation, error))
}

pub(super) fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

/// Whether the server says that it is a replica: after a failover the name leads elsewhere, but the connection does
/// not.
pub(super) fn is_read_only(values: &[Value]) -> bool {
    values.iter().any(|value| match value {
        Value::ServerError(error) => match error.kind() {
            Some(ServerErrorKind::ReadOnly) => true,
            // Older servers wrap the error that a script ran into.
            _ => error.details().is_some_and(|details| details.contains("-READONLY")),
        },
        _ => false,
    })
}

/// How many answers say that the server has no memory left for a write.
pub(super) fn out_of_memory(values: &[Value]) -> usize {
    let is_one = |value: &&Value| match value {
        // Older servers wrap the error that a script ran into.
        Value::ServerError(error) => {
            error.code() == "OOM" || error.details().is_some_and(|details| details.contains("-OOM"))
        }
        _ => false,
    };
    values.iter().filter(is_one).count()
}

/// Whether an error is one of the connection and not of one command.
pub(super) fn is_fatal(error: &RedisError) -> bool {
    !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}
