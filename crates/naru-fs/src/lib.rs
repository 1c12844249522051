//! Directory-descriptor IO: resolve inside a root, durable writes, safe removal.
