//! Client of the OCI distribution protocol: auth, pull, push, resume, search.
//!
//! A [`Client`] holds what is shared (connections, tokens, which endpoint answers for a registry); a [`Session`] is one
//! repository with one set of credentials. Everything that comes from the network is bounded: header bytes, redirects,
//! manifests, pages, error bodies, and the time between two chunks.
//!
//! Invariants: nothing here unpacks a layer, writes a file, prints, or knows a store; names are resolved by [`resolver`],
//! never by the C library (a static glibc has no working `getaddrinfo`). A password is sent only to the registry that it was
//! given for and to the token service which that registry names; neither a mirror nor a redirect's target gets it.
//!
//! Sources: OCI distribution specification 1.1, `distribution/distribution` (token and error formats), RFC 9110, RFC 6750.

mod auth;
mod blob;
mod challenge;
mod cidr;
mod client;
mod config;
mod dial;
mod dns_message;
mod endpoint;
mod errors;
mod inspect;
mod listing;
mod location;
mod login;
mod manifest;
mod proxy;
pub mod resolver;
mod rules;
mod search;
mod session;
mod tls;
mod token;
mod transport;
mod upload;

pub use auth::{Auth, HUB_SERVER_ADDRESS, parse_registry_auth};
pub use blob::{Blob, Download, DownloadEvent};
pub use client::Client;
pub use config::{Config, RetryPolicy, Timeouts};
pub use inspect::Inspection;
pub use login::LoginResult;
pub use manifest::{Descriptor, MANIFEST_LIMIT, Manifest, media_type};
pub use proxy::Proxies;
pub use rules::Rule;
pub use search::SearchResult;
pub use session::{Scope, Session};
pub use upload::{BlobSource, FileSource};

/// Reads a `WWW-Authenticate` header as a registry would send it. For the fuzzer: nothing is to come of it but the end.
#[doc(hidden)]
pub fn fuzz_challenge(header: &[u8]) {
    if let Ok(value) = http::HeaderValue::from_bytes(header) {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::WWW_AUTHENTICATE, value);
        let _ = challenge::parse_challenges(&headers);
    }
}
