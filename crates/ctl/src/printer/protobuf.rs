//! Raw messages, nothing around them.

use api::etcdserverpb::{AuthUserAddResponse, WatchResponse};
use prost::Message;

use super::{Answer, header};
use crate::failure::{Failure, Outcome};

/// Returns whether the answer goes as protobuf at all.
pub(super) fn print(out: &mut Vec<u8>, answer: &Answer<'_>) -> Outcome<bool> {
    let message = match answer {
        Answer::Get(response) => response.encode_to_vec(),
        Answer::Put(response) => response.encode_to_vec(),
        Answer::Delete(response) => response.encode_to_vec(),
        Answer::Txn(response) => response.encode_to_vec(),
        Answer::Watch(response) => watch(response),
        Answer::WatchRefused => watch(&WatchResponse { canceled: true, ..Default::default() }),
        Answer::Members(response) => response.encode_to_vec(),
        Answer::MemberAdd(response) => response.encode_to_vec(),
        Answer::MemberRemove(response, _) => response.encode_to_vec(),
        Answer::MemberUpdate(response, _) => response.encode_to_vec(),
        Answer::MemberPromote(response, _) => response.encode_to_vec(),
        Answer::MoveLeader { response, .. } => response.encode_to_vec(),
        Answer::Alarms(response) => response.encode_to_vec(),
        Answer::AuthStatus(response) => response.encode_to_vec(),
        // Every answer that is a header alone is encoded alike.
        Answer::AccessChanged(header, _) => AuthUserAddResponse { header: header.copied() }.encode_to_vec(),
        Answer::User(response, _) => response.encode_to_vec(),
        Answer::Users(response) => response.encode_to_vec(),
        Answer::Role(response, _) => response.encode_to_vec(),
        Answer::Roles(response) => response.encode_to_vec(),
        Answer::Downgrade(_, response) => response.encode_to_vec(),
        // The header and no more: etcdctl's lease types are not messages, only the header in them is.
        Answer::LeaseGrant(response) => header(response.header.as_ref()).encode_to_vec(),
        Answer::LeaseTimeToLive(response, _) => header(response.header.as_ref()).encode_to_vec(),
        Answer::LeaseKeepAlive(response) => header(response.header.as_ref()).encode_to_vec(),
        Answer::LeaseList(response) => header(response.header.as_ref()).encode_to_vec(),
        Answer::LeaseRevoke(..) => {
            return Err(Failure::bad_feature("marshal unsupported for type *clientv3.LeaseRevokeResponse"));
        }
        Answer::Health(_) | Answer::Status(_) | Answer::HashKv(_) | Answer::SnapshotStatus(_) => {
            return Ok(false);
        }
    };
    out.extend_from_slice(&message);
    Ok(true)
}

/// etcdctl does not pass the server's message on but makes one of the parts it keeps; the watch's number is not among them.
fn watch(response: &WatchResponse) -> Vec<u8> {
    let kept = WatchResponse {
        header: Some(header(response.header.as_ref())),
        compact_revision: response.compact_revision,
        canceled: response.canceled,
        created: response.created,
        events: response.events.clone(),
        ..Default::default()
    };
    kept.encode_to_vec()
}
