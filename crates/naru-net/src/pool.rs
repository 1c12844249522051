//! Endpoints kept ready.
