//! Whether two lists of URLs name the same places.

use std::time::{Duration, Instant};

use crate::url::Url;

/// How long to wait before a name that was not found is asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Compares sorted lists as texts; where these differ, compares what their hosts resolve to. Names are asked for again and
/// again for as long as `patience` lasts. As for etcd, `localhost` is a text and not a name.
///
/// # Errors
/// Why they are not the same, in etcd's words.
pub(super) async fn same(a: &[Url], b: &[Url], patience: Duration) -> Result<(), String> {
    if a.len() != b.len() {
        return Err(format!("len({}) != len({})", quoted(a), quoted(b)));
    }
    if a == b {
        return Ok(());
    }
    let begun = Instant::now();
    let (mut a, mut b) = (resolved(a, begun, patience).await?, resolved(b, begun, patience).await?);
    a.sort();
    b.sort();
    match a.iter().zip(&b).find(|(a, b)| a != b) {
        Some((a, b)) => Err(format!("resolved urls: {a:?} != {b:?}")),
        None => Ok(()),
    }
}

/// A list of texts as Go quotes it.
fn quoted(urls: &[Url]) -> String {
    let quoted: Vec<String> = urls.iter().map(|url| format!("{:?}", url.as_str())).collect();
    format!("[{}]", quoted.join(" "))
}

async fn resolved(urls: &[Url], begun: Instant, patience: Duration) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    for url in urls {
        texts.push(if url.scheme().is_unix() || url.host() == "localhost" {
            url.to_string()
        } else {
            let (scheme, _) = url.as_str().split_once(':').unwrap_or_default();
            format!("{scheme}://{}", address(url, begun, patience).await?)
        });
    }
    Ok(texts)
}

async fn address(url: &Url, begun: Instant, patience: Duration) -> Result<std::net::SocketAddr, String> {
    loop {
        let error = match tokio::net::lookup_host((url.host(), url.port())).await {
            Ok(mut addresses) => match addresses.next() {
                Some(address) => return Ok(address),
                None => format!("lookup {}: no such host", url.host()),
            },
            Err(error) => format!("lookup {}: {error}", url.host()),
        };
        if begun.elapsed() + RETRY > patience {
            return Err(error);
        }
        tracing::warn!(url = url.as_str(), error, "failed to resolve URL Host");
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn compare(a: &[&str], b: &[&str]) -> Result<(), String> {
        let urls = |texts: &[&str]| Url::parse_list(texts.iter().copied()).unwrap();
        same(&urls(a), &urls(b), Duration::ZERO).await
    }

    #[tokio::test]
    async fn equal_texts_need_no_names() {
        assert_eq!(compare(&["http://no.invalid:1"], &["http://no.invalid:1"]).await, Ok(()));
        assert_eq!(compare(&["unix:///a", "http://b:1"], &["http://b:1", "unix:///a"]).await, Ok(()));
    }

    #[tokio::test]
    async fn localhost_is_not_its_address() {
        assert_eq!(
            compare(&["http://localhost:1"], &["http://127.0.0.1:1"]).await,
            Err("resolved urls: \"http://localhost:1\" != \"http://127.0.0.1:1\"".to_owned())
        );
    }

    #[tokio::test]
    async fn a_scheme_makes_a_difference_and_a_spelling_of_an_address_does_not() {
        assert!(compare(&["https://127.0.0.1:1"], &["http://127.0.0.1:1"]).await.is_err());
        assert_eq!(compare(&["http://[::1]:1"], &["http://[0:0:0:0:0:0:0:1]:1"]).await, Ok(()));
    }

    #[tokio::test]
    async fn a_name_that_is_not_found_is_told() {
        let refused = compare(&["http://no.invalid:1"], &["http://127.0.0.1:1"]).await.unwrap_err();
        assert!(refused.starts_with("lookup no.invalid: "), "{refused}");
    }
}
