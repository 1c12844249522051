//! The only crate with unsafe code: system calls that rustix lacks, on owned descriptors.
