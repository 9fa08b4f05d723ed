//! Leases: granted, renewed, attached to keys, expired in time.
