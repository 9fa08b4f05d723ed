//! The outside view: one body of tests for every target.
