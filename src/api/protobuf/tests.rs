//! Protobuf tests.
