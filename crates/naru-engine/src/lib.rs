//! Containers, images, execs and events: the use cases of the engine.
