//! etc
