//! Test server, Artifact writer and simulated device: for tests and the demo, never shipped.
