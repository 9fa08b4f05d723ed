//! One short program per idea; the programs are in `examples/`.
