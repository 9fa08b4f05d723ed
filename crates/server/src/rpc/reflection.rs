//! Server reflection (ours, behind a flag): the descriptors of all services, for tools as grpcurl.
//!
//! The descriptors were made when the messages were generated and are part of the program; this finds in them what is asked
//! for. The older of the two versions of the protocol has the same messages under another package's name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use api::reflection::server_reflection_request::MessageRequest;
use api::reflection::server_reflection_response::MessageResponse;
use api::reflection::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use api::status::Code;
use bytes::Bytes;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tokio::sync::mpsc;

use super::body::Told;
use super::frame::Messages;
use super::{Failure, Frames, decode, frame};

pub(super) const PATH: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
pub(super) const PATH_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

pub(super) const SERVICES: &[&str] =
    &["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// One ServerReflectionInfo stream: an answer for each request, in order.
pub(super) fn open(messages: &mut Messages) -> Box<dyn Frames> {
    let messages = messages.take();
    Box::new(Told::new(|listener| answer_all(messages, listener)))
}

async fn answer_all(mut messages: Messages, listener: mpsc::Sender<Bytes>) -> Result<(), Failure> {
    while let Some(raw) = std::future::poll_fn(|cx| messages.poll_next(cx)).await {
        let request: ServerReflectionRequest = decode(&raw?)?;
        let answer = answer(&DESCRIPTORS, request);
        // Whoever listens owns this future; it is never polled again once nobody does.
        drop(listener.send(frame::message(&answer)).await);
    }
    Ok(())
}

static DESCRIPTORS: LazyLock<Descriptors> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(api::DESCRIPTORS).expect("the generator wrote it");
    Descriptors::new(set.file)
});

/// The files, and in which of them each name is explained.
struct Descriptors {
    files: BTreeMap<String, FileDescriptorProto>,
    /// From the full name of anything that has one to the name of its file.
    symbols: BTreeMap<String, String>,
    services: Vec<String>,
}

impl Descriptors {
    fn new(files: Vec<FileDescriptorProto>) -> Self {
        let mut found = Self { files: BTreeMap::new(), symbols: BTreeMap::new(), services: Vec::new() };
        for file in files {
            if file.package() == "grpc.reflection.v1" {
                found.add(alpha(&file));
            }
            found.add(file);
        }
        found.services.sort();
        found
    }

    fn add(&mut self, file: FileDescriptorProto) {
        let mut symbols = BTreeSet::new();
        let scope = file.package();
        file.message_type.iter().for_each(|message| message_symbols(scope, message, &mut symbols));
        file.enum_type.iter().for_each(|of| enum_symbols(scope, of, &mut symbols));
        for service in &file.service {
            let name = format!("{scope}.{}", service.name());
            symbols.extend(service.method.iter().map(|method| format!("{name}.{}", method.name())));
            symbols.insert(name.clone());
            self.services.push(name);
        }
        self.symbols.extend(symbols.into_iter().map(|symbol| (symbol, file.name().to_owned())));
        self.files.insert(file.name().to_owned(), file);
    }

    /// The file of this name and all it imports, itself first.
    fn with_imports(&self, name: &str) -> Option<FileDescriptorResponse> {
        let mut names = vec![name];
        let mut encoded = Vec::new();
        let mut at = 0;
        while let Some(name) = names.get(at).copied() {
            let file = self.files.get(name)?;
            encoded.push(file.encode_to_vec().into());
            names.extend(file.dependency.iter().map(String::as_str));
            let mut seen = BTreeSet::new();
            names.retain(|name| seen.insert(*name));
            at += 1;
        }
        Some(FileDescriptorResponse { file_descriptor_proto: encoded })
    }
}

fn message_symbols(scope: &str, message: &DescriptorProto, symbols: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", message.name());
    symbols.extend(message.field.iter().map(|field| format!("{name}.{}", field.name())));
    symbols.extend(message.oneof_decl.iter().map(|oneof| format!("{name}.{}", oneof.name())));
    message.nested_type.iter().for_each(|nested| message_symbols(&name, nested, symbols));
    message.enum_type.iter().for_each(|of| enum_symbols(&name, of, symbols));
    symbols.insert(name);
}

/// The values of an enum are names beside it, not within.
fn enum_symbols(scope: &str, of: &EnumDescriptorProto, symbols: &mut BTreeSet<String>) {
    symbols.extend(of.value.iter().map(|value| format!("{scope}.{}", value.name())));
    symbols.insert(format!("{scope}.{}", of.name()));
}

/// The reflection protocol's file as it was before it was finished.
fn alpha(file: &FileDescriptorProto) -> FileDescriptorProto {
    let mut file = file.clone();
    file.name = Some("reflection_v1alpha.proto".to_owned());
    file.package = Some("grpc.reflection.v1alpha".to_owned());
    let rename = |name: &mut Option<String>| {
        if let Some(name) = name {
            *name = name.replace(".grpc.reflection.v1.", ".grpc.reflection.v1alpha.");
        }
    };
    for field in file.message_type.iter_mut().flat_map(|message| &mut message.field) {
        rename(&mut field.type_name);
    }
    for method in file.service.iter_mut().flat_map(|service| &mut service.method) {
        rename(&mut method.input_type);
        rename(&mut method.output_type);
    }
    file
}

fn answer(known: &Descriptors, request: ServerReflectionRequest) -> ServerReflectionResponse {
    let unknown = |what: &str, name: &str| {
        let error_message = format!("{what} not found: {name}");
        MessageResponse::ErrorResponse(ErrorResponse { error_code: Code::NotFound as i32, error_message })
    };
    let file = |what: &str, asked: &str, name: Option<&str>| {
        let found = name.and_then(|name| known.with_imports(name));
        found.map_or_else(|| unknown(what, asked), MessageResponse::FileDescriptorResponse)
    };
    let response = match &request.message_request {
        Some(MessageRequest::ListServices(_)) => {
            let service = known.services.iter().map(|name| ServiceResponse { name: name.clone() }).collect();
            MessageResponse::ListServicesResponse(ListServiceResponse { service })
        }
        Some(MessageRequest::FileByFilename(name)) => file("file", name, Some(name)),
        Some(MessageRequest::FileContainingSymbol(symbol)) => {
            file("symbol", symbol, known.symbols.get(symbol).map(String::as_str))
        }
        // Nothing here has extensions.
        Some(MessageRequest::FileContainingExtension(extension)) => {
            unknown("extension", &format!("{} of {}", extension.extension_number, extension.containing_type))
        }
        Some(MessageRequest::AllExtensionNumbersOfType(name)) if known.symbols.contains_key(name) => {
            MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                base_type_name: name.clone(),
                extension_number: Vec::new(),
            })
        }
        Some(MessageRequest::AllExtensionNumbersOfType(name)) => unknown("type", name),
        None => MessageResponse::ErrorResponse(ErrorResponse {
            error_code: Code::InvalidArgument as i32,
            error_message: "nothing is asked".to_owned(),
        }),
    };
    ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: MessageRequest) -> MessageResponse {
        let request = ServerReflectionRequest { host: "h".into(), message_request: Some(request) };
        let answer = answer(&DESCRIPTORS, request.clone());
        assert_eq!((&*answer.valid_host, answer.original_request), ("h", Some(request)));
        answer.message_response.unwrap()
    }

    fn names(response: MessageResponse) -> Vec<String> {
        let MessageResponse::FileDescriptorResponse(files) = response else { panic!("{response:?}") };
        let file = |bytes: &Bytes| FileDescriptorProto::decode(bytes.clone()).unwrap().name().to_owned();
        files.file_descriptor_proto.iter().map(file).collect()
    }

    #[test]
    fn all_that_is_served_is_listed_and_nothing_else() {
        let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new()))
        else {
            panic!("not a list");
        };
        let mut listed: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        let mut served: Vec<&str> = super::super::SERVICES.iter().chain(SERVICES).copied().collect();
        served.sort_unstable();
        listed.retain(|name| name != "etcdserverpb.Auth" || served.contains(&"etcdserverpb.Auth"));
        assert_eq!(listed, served);
    }

    #[test]
    fn files_come_with_what_they_import_once() {
        for symbol in ["v3lockpb.Lock", "v3lockpb.Lock.Unlock", "v3lockpb.LockRequest.name"] {
            let found = names(ask(MessageRequest::FileContainingSymbol(symbol.into())));
            assert_eq!(found, ["lock.proto", "rpc.proto", "kv.proto", "auth.proto"], "{symbol}");
        }
        assert_eq!(names(ask(MessageRequest::FileByFilename("kv.proto".into()))), ["kv.proto"]);
        let older = "grpc.reflection.v1alpha.ServerReflection";
        let found = names(ask(MessageRequest::FileContainingSymbol(older.into())));
        assert_eq!(found, ["reflection_v1alpha.proto"]);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for request in [
            MessageRequest::FileByFilename("internal.proto".into()),
            MessageRequest::FileContainingSymbol("v3lockpb.Nothing".into()),
            MessageRequest::AllExtensionNumbersOfType("v3lockpb.Nothing".into()),
        ] {
            let MessageResponse::ErrorResponse(error) = ask(request) else { panic!("found") };
            assert_eq!(error.error_code, 5);
        }
    }
}
