//! `etcd-rs`: flags, a member, a signal, an exit code.

use etcd_rs_server::{Launch, Server, flags, logging};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let (config, remarks) = match flags::from_process() {
        Launch::Run(config, remarks) => (config, remarks),
        Launch::Done(code) => return code,
    };
    logging::init(&config);
    remarks.log();
    Server::run(*config)
}
