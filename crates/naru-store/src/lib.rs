//! Blobs, layers, image index and records on disk.
