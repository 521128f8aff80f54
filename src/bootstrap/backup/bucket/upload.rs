//! Objects on their way to a store: short ones in one piece, long ones in parts. None is held in memory,
//! and what is cut off begins anew where its part began.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use rusty_s3::actions::S3Action;
use ureq::SendBody;
use ureq::http::Response;

use super::answers::element;
use super::fault::BucketError;
use super::requests::{Store, VALID};

/// What is longer goes in parts. The store takes 10,000 of them and none above 5 GiB, so that this does for
/// 625 GiB; etcd holds 8 GiB at most.
const PART: u64 = if cfg!(test) { 1 << 10 } else { 64 << 20 };

/// The length from which on the store is asked first whether it takes it, so that its refusal is heard.
const ASKED: u64 = 1 << 20;

impl Store {
    /// Sends an object of this length, which lies in a file of this name here.
    pub(super) fn put(
        &self,
        key: &str,
        size: u64,
        input: &mut (impl Read + Seek),
        here: &Path,
    ) -> Result<(), BucketError> {
        if size > PART {
            return self.put_parts(key, size, input, here);
        }
        let url = self.bucket.put_object(Some(&self.signer), key).sign(VALID);
        self.send(url.as_str(), 0..size, input, here).map(drop)
    }

    /// Sends a piece of it.
    fn send(
        &self,
        url: &str,
        piece: std::ops::Range<u64>,
        input: &mut (impl Read + Seek),
        here: &Path,
    ) -> Result<Response<ureq::Body>, BucketError> {
        let size = piece.end - piece.start;
        self.patiently(|store| {
            let start = input.seek(SeekFrom::Start(piece.start));
            start.map_err(|source| BucketError::Here { path: here.to_owned(), source })?;
            let mut body = input.by_ref().take(size);
            let mut request = store.agent.put(url).header("content-length", size.to_string());
            if size >= ASKED {
                request = request.header("expect", "100-continue");
            }
            store.good(request.send(SendBody::from_reader(&mut body)))
        })
    }

    fn put_parts(
        &self,
        key: &str,
        size: u64,
        input: &mut (impl Read + Seek),
        here: &Path,
    ) -> Result<(), BucketError> {
        let url = self.bucket.create_multipart_upload(Some(&self.signer), key).sign(VALID);
        let text = self.patiently(|store| {
            store.text(store.good(store.agent.post(url.as_str()).send_empty())?)
        })?;
        let id =
            element(&text, "UploadId").ok_or_else(|| self.strange("an upload has no number"))?;
        let id = id.as_str();
        let sent = self.send_parts(key, id, size, input, here);
        if sent.is_err() {
            // What was sent would be paid for as long as it lies there.
            let abort = self.bucket.abort_multipart_upload(Some(&self.signer), key, id).sign(VALID);
            let _ = self.patiently(|store| store.good(store.agent.delete(abort.as_str()).call()));
        }
        sent
    }

    fn send_parts(
        &self,
        key: &str,
        id: &str,
        size: u64,
        input: &mut (impl Read + Seek),
        here: &Path,
    ) -> Result<(), BucketError> {
        let mut tags = Vec::new();
        let starts = (0..size).step_by(usize::try_from(PART).unwrap_or(usize::MAX));
        for (number, start) in (1_u16..).zip(starts) {
            let part = self.bucket.upload_part(Some(&self.signer), key, number, id);
            let piece = start..size.min(start + PART);
            let answer = self.send(part.sign(VALID).as_str(), piece, input, here)?;
            let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok());
            tags.push(tag.ok_or_else(|| self.strange("a part has no ETag"))?.to_owned());
        }
        let each = tags.iter().map(String::as_str);
        let done = self.bucket.complete_multipart_upload(Some(&self.signer), key, id, each);
        let url = done.sign(VALID);
        let document = done.body();
        let text = self.patiently(|store| {
            store.text(store.good(store.agent.post(url.as_str()).send(&document))?)
        })?;
        // It may refuse with a good status.
        if text.contains("<Error>") {
            let why = format!(
                "the parts were not put together ({})",
                element(&text, "Code").unwrap_or_default()
            );
            return Err(self.strange(why));
        }
        Ok(())
    }
}
