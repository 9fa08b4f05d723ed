//! The words etcd speaks on the wire.
//!
//! Messages are generated from `proto/` by `cargo xtask codegen` and committed; building needs no protoc. All byte fields are
//! [`bytes::Bytes`], so that a decoded message shares the buffer it came in. The gRPC stubs come with the features `client`
//! and `server`.
//!
//! Beside the messages stand the two things every crate must spell alike: the ids ([`LeaseId`], [`MemberId`], [`ClusterId`])
//! and, in [`status`], the codes and texts of etcd's errors. Nothing here behaves.
//!
//! ```
//! use etcd_rs_api::{LeaseId, mvccpb::KeyValue};
//! use prost::Message;
//!
//! let kv = KeyValue { key: "a".into(), mod_revision: 2, ..Default::default() };
//! assert_eq!(KeyValue::decode(kv.encode_to_vec().as_slice()).unwrap(), kv);
//! assert_eq!(LeaseId::new(0x694d_a203_842f_e33d).to_string(), "694da203842fe33d");
//! ```

mod ids;
pub mod status;

pub use ids::{ClusterId, LeaseId, MemberId};

/// Everything a client may ask, as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

macro_rules! generated {
    ($(#[$doc:meta])* $module:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, clippy::nursery,
            unused_qualifications, unreachable_pub, elided_lifetimes_in_paths, missing_debug_implementations,
            reason = "generated; `proto/` holds the words")]
        pub mod $module {
            include!(concat!("generated/", $file));
        }
    };
}

generated!(
    /// Keys and events, as stored and as sent.
    mvccpb, "mvccpb.rs");
generated!(
    /// Users, roles and permissions.
    authpb, "authpb.rs");
generated!(
    /// The client API: KV, Watch, Lease, Cluster, Maintenance, Auth.
    etcdserverpb, "etcdserverpb.rs");
generated!(
    /// Locks.
    v3lockpb, "v3lockpb.rs");
generated!(
    /// Elections.
    v3electionpb, "v3electionpb.rs");
generated!(
    /// gRPC health.
    health, "grpc.health.v1.rs");
generated!(
    /// gRPC reflection.
    reflection, "grpc.reflection.v1.rs");
generated!(
    /// What members of an etcd-rs cluster replicate among themselves; never seen by a client.
    internal, "etcdrs.rs");
