//! One durable transaction for everything the state machine keeps.
