//! The archive from end to end.

use std::io::Read;

use flate2::read::GzDecoder;
use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};

use super::*;

/// The smallest static program: a header and no program header.
fn program() -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01".to_vec();
    elf.resize(64, 0);
    elf[18] = 62;
    elf.extend(b"the program itself");
    elf
}

fn files(archive: &[u8]) -> HashMap<String, (Vec<u8>, Header)> {
    let mut found = HashMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        found.insert(path, (bytes, entry.header().clone()));
    }
    found
}

#[test]
fn the_archive_leads_from_the_index_to_the_program() {
    let name = "registry.example:5000/infra/apiproxy:1.2".parse().unwrap();
    let files = files(&archive(&program(), &name, "1.2").unwrap());
    assert_eq!(files.len(), 5);
    let blob = |digest: &Digest| {
        let bytes = &files[&format!("blobs/sha256/{}", digest.digest())].0;
        assert_eq!(sha256(bytes), digest.to_string());
        bytes.as_slice()
    };
    let index = ImageIndex::from_reader(files["index.json"].0.as_slice()).unwrap();
    let [described] = index.manifests().as_slice() else { panic!("{index:?}") };
    let annotations = described.annotations().as_ref().unwrap();
    assert_eq!(annotations[CONTAINERD_NAME], "registry.example:5000/infra/apiproxy:1.2");
    assert_eq!(annotations[REF_NAME], "1.2");
    let manifest = ImageManifest::from_reader(blob(described.digest())).unwrap();
    let config = ImageConfiguration::from_reader(blob(manifest.config().digest())).unwrap();
    assert_eq!(config.architecture(), &Arch::Amd64);
    let run = config.config().as_ref().unwrap();
    assert_eq!(run.user().as_deref(), Some("65532:65532"));
    assert_eq!(run.entrypoint().as_deref(), Some(["/apiproxy".to_owned()].as_slice()));
    let mut layer = Vec::new();
    let layers = manifest.layers();
    GzDecoder::new(blob(layers[0].digest())).read_to_end(&mut layer).unwrap();
    assert_eq!(config.rootfs().diff_ids(), &[sha256(&layer)]);
    let (bytes, header) = &self::files(&layer)["apiproxy"];
    assert_eq!(bytes, &program());
    assert_eq!((header.mode().unwrap(), header.uid().unwrap()), (0o755, 0));
    assert_eq!(header.mtime().unwrap(), 0);
}

#[test]
fn the_same_program_makes_the_same_archive() {
    let name: Name = "apiproxy:1".parse().unwrap();
    let first = archive(&program(), &name, "1").unwrap();
    // Maps are ordered anew each time: a dozen rounds would show it.
    for _ in 0..12 {
        assert!(archive(&program(), &name, "1").unwrap() == first);
    }
    assert!(archive(&program(), &name, "2").unwrap() != first);
}
