//! What stores answer, read leniently: they do not agree on namespaces, nor on the names of outer elements.

use std::time::UNIX_EPOCH;

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) size: u64,
    /// When it came there, in seconds since 1970.
    pub(super) since: u64,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    /// What the next page is asked for with, if there is one.
    pub(super) next: Option<String>,
}

/// The text of the first element of this name. Ours have no attributes.
pub(super) fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let escaped = [("&quot;", "\""), ("&#34;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    let plain = |text: String, (from, to): (&str, &str)| text.replace(from, to);
    Some(escaped.into_iter().fold(text.trim().to_owned(), plain))
}

/// Reads a page; none if it is no list.
pub(super) fn page(xml: &str) -> Option<Page> {
    let (_, xml) = xml.split_once("<ListBucketResult")?;
    let object = |xml: &str| {
        let time = humantime::parse_rfc3339(&element(xml, "LastModified")?).ok()?;
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Of what a key may have, ours have nothing else that is written otherwise in a URL.
        let key = element(xml, "Key")?.replace("%2F", "/");
        Some(Object { key, size: element(xml, "Size")?.parse().ok()?, since })
    };
    // An object that cannot be read is none of ours, or the list is none.
    let objects = xml.split("<Contents>").skip(1).map(object).collect::<Option<Vec<_>>>()?;
    let more = element(xml, "IsTruncated").is_some_and(|more| more == "true");
    Some(Page { objects, next: element(xml, "NextContinuationToken").filter(|_| more) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_whatever_they_are_wrapped_in() {
        let xml = "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://doc.example/\"><Name>b</Name>\
                   <IsTruncated>true</IsTruncated><Contents><Key>etcd%2Fx.tar</Key>\
                   <LastModified>1970-01-01T00:01:00.000Z</LastModified><ETag>&quot;a&quot;</ETag>\
                   <Size>9</Size></Contents><NextContinuationToken>a&amp;b=</NextContinuationToken>\
                   </ListBucketResult>";
        let object = Object { key: "etcd/x.tar".to_owned(), size: 9, since: 60 };
        let read = page(xml).unwrap();
        assert_eq!((read.objects, read.next.as_deref()), (vec![object], Some("a&b=")));
        let last = page(&xml.replace("true", "false")).unwrap();
        assert_eq!(last.next, None);
        assert_eq!(page("<html><body>Welcome</body></html>"), None);
        assert_eq!(page(&xml.replace("<Size>9", "<Size>x")), None);
        assert_eq!(element("<A><UploadId> 7 </UploadId></A>", "UploadId").as_deref(), Some("7"));
        assert_eq!(element("<Error><Code>X</Code>", "Message"), None);
    }
}
