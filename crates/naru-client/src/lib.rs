//! A small blocking client of the Engine API.
