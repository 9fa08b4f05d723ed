//! Keys with a history: the revisioned keyspace of etcd, to embed.
