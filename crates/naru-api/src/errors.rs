//! The one table from error class to HTTP status.

use http::StatusCode;
use naru_base::{Class, Error};

/// The status of an error of `class`.
pub(crate) fn status(class: Class) -> StatusCode {
    match class {
        Class::InvalidParameter => StatusCode::BAD_REQUEST,
        Class::Unauthorized => StatusCode::UNAUTHORIZED,
        Class::Forbidden => StatusCode::FORBIDDEN,
        Class::NotFound => StatusCode::NOT_FOUND,
        Class::Conflict => StatusCode::CONFLICT,
        Class::NotModified => StatusCode::NOT_MODIFIED,
        Class::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Class::Cancelled | Class::System => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `{"message":"…"}` and a newline.
pub(crate) fn body(error: &Error) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Message<'a> {
        message: &'a str,
    }
    crate::reply::json_line(&Message { message: error.message() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_of_json() {
        assert_eq!(body(&Error::not_found("No such container: a<b")), b"{\"message\":\"No such container: a<b\"}\n");
        assert_eq!(status(Class::Conflict), 409);
        assert_eq!(status(Class::NotModified), 304);
    }
}
