//! Test support: a private engine per test, a loopback registry, tiny images.
