//! The manifests of packaging/, filled in: the static pod that runs the proxy on a node, and the rights
//! that it needs to watch the list of apiservers.

use std::path::{Component, Path, PathBuf};

use minijinja::{Environment, UndefinedBehavior, context};

const STATIC_POD: &str = include_str!("../packaging/static-pod.yaml");
const RBAC: &str = include_str!("../packaging/rbac.yaml");

/// Why a manifest cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A path that cannot be mounted.
    #[error(
        "{0}: give the absolute path of a file on the node, in a folder other than `/` and without `..`"
    )]
    Path(String),
    /// A name that Kubernetes does not take.
    #[error("a name in Kubernetes is 1 to 63 lower-case letters, digits and inner hyphens")]
    Name,
    /// The template and its values do not fit.
    #[error("cannot render the manifest: {0}")]
    Template(String),
}

/// Where the proxy in a pod has its configuration from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From this file on the node; its folder is mounted.
    File(PathBuf),
    /// From flags: these backends, as `HOST:PORT`.
    Backends(Vec<String>),
}

/// A static pod that runs the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticPod {
    /// Its name; kubelet appends the node's.
    pub name: String,
    /// Which of several that take over from each other this is; none takes over from nobody.
    pub generation: Option<u32>,
    /// Its namespace.
    pub namespace: String,
    /// The image, as the node's container runtime knows it.
    pub image: String,
    /// Where its configuration is.
    pub source: Source,
    /// The cluster's CA on the node; its folder is mounted.
    pub ca_file: PathBuf,
    /// A folder of the node that the proxy may write to: for `discovery.cacheFile`.
    pub state_folder: Option<PathBuf>,
}

impl StaticPod {
    /// The manifest.
    ///
    /// # Errors
    /// If a path cannot be mounted or a name is none.
    pub fn render(&self) -> Result<String, ManifestError> {
        check_name(&self.name)?;
        check_name(&self.namespace)?;
        let nowhere = Path::new("");
        let (config, config_folder, backends): (&Path, &Path, &[String]) = match &self.source {
            Source::File(path) => (path, folder(path)?, &[]),
            Source::Backends(backends) => (nowhere, nowhere, backends),
        };
        let state_folder = self.state_folder.as_ref().map(|path| path.display().to_string());
        render(
            STATIC_POD,
            context! {
                name => self.name.clone(),
                generation => self.generation,
                namespace => self.namespace.clone(),
                image => self.image.clone(),
                version => env!("CARGO_PKG_VERSION"),
                config => config.display().to_string(),
                config_folder => config_folder.display().to_string(),
                ca_folder => folder(&self.ca_file)?.display().to_string(),
                ca_file => self.ca_file.display().to_string(),
                backends => backends.to_vec(),
                state_folder => state_folder,
            },
        )
    }
}

/// The rights to watch the list of apiservers, for a `ServiceAccount` in this namespace and a user, both
/// called `apiproxy`.
///
/// # Errors
/// If the namespace is no name.
pub fn rbac(namespace: &str) -> Result<String, ManifestError> {
    check_name(namespace)?;
    render(RBAC, context! { namespace => namespace })
}

fn render(template: &str, values: minijinja::Value) -> Result<String, ManifestError> {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    // Values are quoted as JSON, which is YAML: no value can break out of its place.
    templates.add_filter("quote", |text: String| serde_json::Value::String(text).to_string());
    templates
        .render_str(template, values)
        .map(|manifest| manifest + "\n")
        .map_err(|error| ManifestError::Template(error.to_string()))
}

/// The folder of a file on the node. It is the folder that is mounted: a file that is mounted by
/// itself stays the old one when a new one is renamed onto its place.
///
/// # Errors
/// If the path is relative, has `..`, or lies in `/` itself.
pub fn folder(file: &Path) -> Result<&Path, ManifestError> {
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    match file.parent() {
        Some(folder)
            if file.is_absolute()
                && file.components().all(plain)
                && folder.components().count() > 1 =>
        {
            Ok(folder)
        }
        _ => Err(ManifestError::Path(file.display().to_string())),
    }
}

/// Is this an RFC 1123 label?
///
/// # Errors
/// If it is none.
pub fn check_name(name: &str) -> Result<(), ManifestError> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = (1..=63).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good { Ok(()) } else { Err(ManifestError::Name) }
}
