//! The Docker Engine API: routes, versions, streams; error class to status.
