//! An OCI image of one static program on an empty base, as an archive that container runtimes import.

mod elf;
mod name;

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use oci_spec::OciSpecError;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, Digest, HistoryBuilder,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder,
};
use serde::Serialize;
use tar::{EntryType, Header};

pub use elf::{Machine, static_machine};
pub use name::Name;

/// Who runs the program: the customary number of "nonroot", which needs no entry in /etc/passwd.
const USER: &str = "65532:65532";

/// A fixed time of creation: the same program makes the same archive, at any time.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// The annotation from which containerd takes the whole name of an image.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The annotation of the OCI's image layout: the tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why there can be no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Nothing that Linux could run.
    #[error("the program is no 64-bit ELF file")]
    NotElf,
    /// It is for a machine that this tool knows nothing of.
    #[error("the program is for a machine of the unknown number {0}")]
    UnknownMachine(u64),
    /// On an empty base there is no loader and no library.
    #[error("the program is linked dynamically and cannot run on an empty base")]
    Dynamic,
    /// The name with the tag is wrong.
    #[error("{0:?} is no name of an image: {1}")]
    Name(String, &'static str),
    /// A document cannot be made.
    #[error("cannot describe the image: {0}")]
    Spec(#[from] OciSpecError),
    /// A document cannot be made.
    #[error("cannot describe the image: {0}")]
    Json(#[from] serde_json::Error),
    /// The archive cannot be made.
    #[error("cannot write the archive: {0}")]
    Write(#[from] io::Error),
}

/// Makes the archive: a tar file that holds an OCI image layout. The same program, name and version
/// give the same bytes.
///
/// # Errors
/// See [`ImageError`].
pub fn archive(binary: &[u8], name: &Name, version: &str) -> Result<Vec<u8>, ImageError> {
    let machine = static_machine(binary)?;
    let layer = tar_of(&[Entry { path: "apiproxy", mode: 0o755, bytes: binary }])?;
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(&layer)?;
    let blob = gzip.finish()?;
    let arch = match machine {
        Machine::X86_64 => Arch::Amd64,
        Machine::Aarch64 => Arch::ARM64,
    };
    let config = ImageConfigurationBuilder::default()
        .created(CREATED)
        .architecture(arch.clone())
        .os(Os::Linux)
        .config(
            ConfigBuilder::default()
                .user(USER)
                .entrypoint(["/apiproxy".to_owned()])
                .cmd(["run".to_owned()])
                .working_dir("/")
                .labels(labels(version))
                .build()?,
        )
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids([sha256(&layer)]).build()?)
        .history([HistoryBuilder::default()
            .created(CREATED)
            .created_by("apiproxy image")
            .build()?])
        .build()?;
    let config = json(&config)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(describe(MediaType::ImageConfig, &config)?)
        .layers([describe(MediaType::ImageLayerGzip, &blob)?])
        .annotations(labels(version))
        .build()?;
    let manifest = json(&manifest)?;
    let mut described = describe(MediaType::ImageManifest, &manifest)?;
    described
        .set_platform(Some(PlatformBuilder::default().architecture(arch).os(Os::Linux).build()?));
    described.set_annotations(Some(HashMap::from([
        (CONTAINERD_NAME.to_owned(), name.to_string()),
        (REF_NAME.to_owned(), name.tag().to_owned()),
    ])));
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests([described])
        .build()?;
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
    let (layout, index) = (json(&layout)?, json(&index)?);
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    let file = |path, bytes| Entry { path, mode: 0o644, bytes };
    Ok(tar_of(&[
        file("oci-layout", &layout),
        file("index.json", &index),
        file(&path(&manifest), &manifest),
        file(&path(&config), &config),
        file(&path(&blob), &blob),
    ])?)
}

fn labels(version: &str) -> HashMap<String, String> {
    let label =
        |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.into());
    HashMap::from([
        label("title", "apiproxy"),
        label("version", version),
        label("licenses", "Apache-2.0"),
    ])
}

/// A file of an archive.
struct Entry<'a> {
    path: &'a str,
    mode: u32,
    bytes: &'a [u8],
}

/// An archive of files that belong to root and are as old as time.
fn tar_of(entries: &[Entry<'_>]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(entry.bytes.len() as u64);
        archive.append_data(&mut header, entry.path, entry.bytes)?;
    }
    archive.into_inner()
}

/// A document with its keys in order: the maps inside have none of their own.
fn json(document: &impl Serialize) -> Result<Vec<u8>, ImageError> {
    Ok(serde_json::to_vec(&serde_json::to_value(document)?)?)
}

fn describe(media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, ImageError> {
    let digest: Digest = sha256(bytes).parse()?;
    Ok(DescriptorBuilder::default()
        .media_type(media_type)
        .digest(digest)
        .size(bytes.len() as u64)
        .build()?)
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

/// The SHA-256 in lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests;
