//! A whole etcd-rs member: the libraries joined, the sockets, the tasks and the clock.
