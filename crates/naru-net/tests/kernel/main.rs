//! On the real kernel, each test in a network namespace of its own. They need root, and the nft program to read rules with.
#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of test functions")]

mod firewall;
mod gate;
mod identity;
mod legacy;
mod lifecycle;
mod pool;
mod traffic;
mod world;
