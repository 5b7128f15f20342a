//! Nothing: see tests/committed.rs.
