//! Client of the OCI distribution protocol: auth, pull, push, resume, search.
