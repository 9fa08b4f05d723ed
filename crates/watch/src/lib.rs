//! The watch hub: each committed event to each watcher once and in order.
