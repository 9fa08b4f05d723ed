//! A client for etcd v3: keys, transactions, watches, leases.
