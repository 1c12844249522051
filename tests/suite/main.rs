//! The black-box suite, in one program: it links once, and its parts share one engine where a test needs none of its own.

mod api;
mod attacks;
mod bad_input;
mod containers;
mod cp;
mod devices;
mod dns;
mod exec;
mod health;
mod hostile_images;
mod images;
mod ipv6;
mod isolation;
mod kit;
mod lifecycle;
mod limits;
mod logs;
mod network;
mod networks;
mod privileges;
mod recovery;
mod registry;
mod restart;
mod tutorial;
mod userns;
mod volumes;
