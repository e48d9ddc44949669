//! Cells of server-side tables.
