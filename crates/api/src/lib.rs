//! The words etcd speaks on the wire: messages, status texts, ids.
