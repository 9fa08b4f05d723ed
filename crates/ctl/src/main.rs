//! The program; all of it is in the library beside it, where the fuzzers reach it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    etcd_rs_ctl::main()
}
