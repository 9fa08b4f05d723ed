//! A replicated log on openraft and RocksDB for a state machine of your own.
