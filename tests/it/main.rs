//! The integration tests, one module per area.

mod kubectl_versions;
