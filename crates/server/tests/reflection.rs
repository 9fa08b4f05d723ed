//! Server reflection: there when it is switched on, and only then.

mod common;

use api::reflection::server_reflection_request::MessageRequest;
use api::reflection::server_reflection_response::MessageResponse;
use api::reflection::{ServerReflectionRequest, ServerReflectionResponse};
use common::{Client, config, start};
use etcd_rs_server::{Config, Server};

const VERSIONS: [&str; 2] = ["v1", "v1alpha"];

fn ask(request: MessageRequest) -> ServerReflectionRequest {
    ServerReflectionRequest { host: String::new(), message_request: Some(request) }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_described_to_whoever_asks() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Config { enable_grpc_reflection: true, ..config(dir.path()) }).await.unwrap();
    let client = Client::connect(&server).await;
    for version in VERSIONS {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let mut stream = client.stream(&path, &ask(MessageRequest::ListServices(String::new()))).await;
        let answer: ServerReflectionResponse = stream.next().await.unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            panic!("{answer:?}");
        };
        assert!(list.service.iter().any(|service| service.name == "v3lockpb.Lock"), "{list:?}");
        stream.say(&ask(MessageRequest::FileContainingSymbol("etcdserverpb.KV.Range".into())));
        let answer: ServerReflectionResponse = stream.next().await.unwrap();
        let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
            panic!("{answer:?}");
        };
        assert_eq!(files.file_descriptor_proto.len(), 3);
    }
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_there_is_no_such_service() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let client = Client::connect(&server).await;
    for version in VERSIONS {
        let service = format!("grpc.reflection.{version}.ServerReflection");
        let (status, _) = client.raw(&format!("/{service}/ServerReflectionInfo"), common::frame(b"")).await;
        assert_eq!((status.code, status.text), (Some(12), format!("unknown service {service}")));
    }
    server.shutdown().await.unwrap();
}
