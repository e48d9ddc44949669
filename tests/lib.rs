//! The harness of the integration tests: a cluster made of the real binary, cleaned up whatever happens.
