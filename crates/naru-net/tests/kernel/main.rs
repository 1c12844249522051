//! On the real kernel, each test in a network namespace of its own. They need root, and the nft program to read rules with.

mod firewall;
mod lifecycle;
mod traffic;
mod world;
