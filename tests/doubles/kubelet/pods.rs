//! Static pods: each is a unit of systemd, so that it lives on when kubelet is restarted, as containers do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::schema;
use crate::token::hex;

/// What the names of their units begin with.
const UNIT: &str = "double-pod-";

/// Where the programs are that stand for those of images: `kube-apiserver` and others, doubles or real
/// ones. A folder in it that is named like a tag, such as `v1.35.1`, has those of that version.
const PROGRAMS: &str = "/usr/local/lib/doubles";

/// Starts what has a manifest, stops what has none any more, and starts anew what has changed. As with
/// kubelet, a pod of the same name begins when the old one has ended, and none waits for another's end.
pub(super) fn reconcile(folder: &Path) {
    let mut wanted = BTreeMap::new();
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    for path in files.filter(|path| {
        path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
    }) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        match Pod::read(&text) {
            Ok(pod) => drop(wanted.insert(pod.name.clone(), pod)),
            Err(error) => eprintln!("{}: {error}", path.display()),
        }
    }
    let alive = units();
    let is_wanted = |unit: &Unit| wanted.get(&unit.pod).is_some_and(|pod| pod.hash == unit.hash);
    for unit in alive.iter().filter(|unit| !unit.ends && !is_wanted(unit)) {
        systemctl(&["stop", "--no-block", &unit.name]);
    }
    for pod in wanted.values().filter(|pod| alive.iter().all(|unit| unit.pod != pod.name)) {
        if let Err(error) = pod.start() {
            eprintln!("{}: {error}", pod.name);
        }
    }
}

/// One start of a pod.
struct Unit {
    name: String,
    pod: String,
    /// Of what it was made from.
    hash: String,
    /// Is it being stopped?
    ends: bool,
}

impl Unit {
    /// From a line of `systemctl list-units`: its name, three states, and its description.
    fn read(line: &str) -> Option<Self> {
        let words: Vec<_> = line.trim_start_matches(['●', '×', ' ']).split_whitespace().collect();
        let [name, _, active, _, pod, hash] = words[..] else { return None };
        let [name, pod, hash] = [name, pod, hash].map(str::to_owned);
        Some(Self { name, pod, hash, ends: active == "deactivating" })
    }
}

/// Our units that are alive, or about to be started again.
fn units() -> Vec<Unit> {
    let states = "--state=active,activating,deactivating,reloading";
    let text = systemctl(&["list-units", "--plain", "--no-legend", states, &format!("{UNIT}*")]);
    text.lines().filter_map(Unit::read).collect()
}

fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).stdin(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// A static pod of one container.
struct Pod {
    name: String,
    image: String,
    /// Its program and arguments; the image's own program if `command` is empty.
    command: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<String>,
    /// Where folders and files of the host are in the container, and whether they cannot be written there.
    mounts: Vec<Mount>,
    hash: String,
}

/// Something of the host in a container.
struct Mount {
    host: String,
    inside: String,
    read_only: bool,
}

impl Pod {
    fn read(text: &str) -> Result<Self, String> {
        let documents = schema::yaml(text)?;
        let [pod] = &documents[..] else { return Err("it has no single document".to_owned()) };
        if pod["kind"] != "Pod" || pod["apiVersion"] != "v1" {
            return Err("it is no Pod of v1".to_owned());
        }
        let name = pod["metadata"]["name"]
            .as_str()
            .filter(|name| !name.is_empty())
            .ok_or("it has no name")?;
        let spec = &pod["spec"];
        if spec["hostNetwork"] != true {
            return Err("only pods on the host's network run here".to_owned());
        }
        let Some([container]) = spec["containers"].as_array().map(Vec::as_slice) else {
            return Err("it has not one container".to_owned());
        };
        let texts = |value: &Value| {
            let items = value.as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let environment = container["env"].as_array().into_iter().flatten();
        let environment = environment
            .filter_map(|e| Some(format!("{}={}", e["name"].as_str()?, e["value"].as_str()?)));
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        let mounts: Result<Vec<_>, _> =
            mounts.map(|mount| Mount::read(mount, &spec["volumes"])).collect();
        let pod = Self {
            name: name.to_owned(),
            image: container["image"].as_str().ok_or("its container has no image")?.to_owned(),
            command: texts(&container["command"]),
            arguments: texts(&container["args"]),
            environment: environment.collect(),
            mounts: mounts?,
            hash: hex(&digest(&SHA256, text.as_bytes()).as_ref()[..8]),
        };
        Ok(pod)
    }

    /// Each start has a name of its own: systemd may still know the last one.
    fn start(&self) -> Result<(), String> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unit = format!("{UNIT}{}-{}", self.name, since.as_millis());
        let description = format!("{} {}", self.name, self.hash);
        let mut run = Command::new("systemd-run");
        run.args(["--quiet", "--collect", "--unit", &unit, "--description", &description]);
        run.args([
            "--property=Restart=always",
            "--property=RestartSec=1",
            "--property=StartLimitIntervalSec=0",
        ]);
        run.args(["--property=TimeoutStopSec=30", "--"]).args(self.line()?);
        let output = run.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// What is run: a program of the host that stands for that of the image, or a container.
    fn line(&self) -> Result<Vec<String>, String> {
        let (stem, tag) = stem_and_tag(&self.image);
        let program = [
            format!("{PROGRAMS}/{tag}/{stem}"),
            format!("{PROGRAMS}/{stem}"),
            format!("/usr/bin/{stem}"),
        ];
        let of_kubernetes = stem == "etcd" || stem.starts_with("kube-");
        let program =
            program.into_iter().find(|program| of_kubernetes && Path::new(program).exists());
        if let Some(program) = program {
            self.sees_its_files()?;
            let mut line = vec!["/usr/bin/env".to_owned()];
            line.extend(self.environment.iter().cloned());
            line.push(program);
            line.extend(self.command.iter().skip(1).chain(&self.arguments).cloned());
            return Ok(line);
        }
        if !self.command.is_empty() {
            return Err(format!("{}: the program of an image cannot be told here", self.image));
        }
        let mut line: Vec<_> =
            ["ctr", "-n", "k8s.io", "run", "--rm", "--net-host"].map(str::to_owned).to_vec();
        for mount in &self.mounts {
            let access = if mount.read_only { "ro" } else { "rw" };
            line.extend([
                "--mount".to_owned(),
                format!("type=bind,src={},dst={},options=rbind:{access}", mount.host, mount.inside),
            ]);
        }
        for variable in &self.environment {
            line.extend(["--env".to_owned(), variable.clone()]);
        }
        let image = whole_name(&self.image);
        let entrypoint = entrypoint(&image)?;
        line.extend([image, format!("{}-{}", self.name, self.hash)]);
        // With arguments, ctr wants the whole command.
        line.extend(entrypoint.into_iter().chain(self.arguments.iter().cloned()));
        // One that was killed leaves its name behind.
        let id = format!("{}-{}", self.name, self.hash);
        let script =
            format!("ctr -n k8s.io task rm -f {id}; ctr -n k8s.io container rm {id}; exec \"$@\"");
        Ok(["/bin/sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]
            .into_iter()
            .chain(line)
            .collect())
    }

    /// A file that a flag names must be in the container: it is looked for by its path there.
    fn sees_its_files(&self) -> Result<(), String> {
        for argument in self.command.iter().skip(1).chain(&self.arguments) {
            let Some((flag, path)) =
                argument.split_once('=').filter(|(_, path)| path.starts_with('/'))
            else {
                continue;
            };
            let mount = self.mounts.iter().find(|mount| Path::new(path).starts_with(&mount.inside));
            let mount = mount.ok_or(format!("{flag}: {path} is in no volume of the pod"))?;
            if mount.host != mount.inside {
                return Err(format!(
                    "{flag}: {path} is elsewhere on the host, which this double cannot show"
                ));
            }
        }
        Ok(())
    }
}

/// The last part of an image's name, and its tag; where it has none, the folder itself.
fn stem_and_tag(image: &str) -> (&str, &str) {
    let last = image.rsplit('/').next().unwrap_or_default();
    let last = last.split('@').next().unwrap_or_default();
    last.split_once(':').unwrap_or((last, "."))
}

/// As the container runtime has it: kubelet makes short names whole.
fn whole_name(image: &str) -> String {
    match image.split_once('/') {
        None => format!("docker.io/library/{image}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
    }
}

/// What an image runs before the arguments, by its configuration.
fn entrypoint(image: &str) -> Result<Vec<String>, String> {
    let ctr = |words: &[&str]| {
        let output = Command::new("ctr").args(["-n", "k8s.io"]).args(words).output();
        let output = output.map_err(|error| format!("ctr: {error}"))?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let list = ctr(&["images", "ls", &format!("name=={image}")])?;
    let mut words = list.split_whitespace();
    let mut digest = words.find(|word| word.starts_with("sha256:")).map(str::to_owned);
    while let Some(found) = digest {
        let text = ctr(&["content", "get", &found])?;
        let document: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if let Some(words) = document["config"]["Entrypoint"].as_array() {
            return Ok(words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        }
        // From an index to a manifest, and from there to the configuration.
        let next = [&document["manifests"][0]["digest"], &document["config"]["digest"]];
        digest = next.into_iter().find_map(Value::as_str).map(str::to_owned);
    }
    Err(format!("{image} is not there, or has no entrypoint"))
}

impl Mount {
    fn read(mount: &Value, volumes: &Value) -> Result<Self, String> {
        let name = &mount["name"];
        let volume =
            volumes.as_array().into_iter().flatten().find(|volume| volume["name"] == *name);
        let volume = &volume.ok_or(format!("there is no volume {name}"))?["hostPath"];
        let host =
            volume["path"].as_str().ok_or(format!("the volume {name} is none of the host"))?;
        let path = Path::new(host);
        match volume["type"].as_str().unwrap_or_default() {
            "DirectoryOrCreate" => {
                fs::create_dir_all(path).map_err(|error| format!("{host}: {error}"))?;
            }
            "FileOrCreate" if !path.exists() => {
                fs::write(path, "").map_err(|error| format!("{host}: {error}"))?;
            }
            "Directory" if !path.is_dir() => return Err(format!("{host} is no folder")),
            "File" if !path.is_file() => return Err(format!("{host} is no file")),
            "" if !path.exists() => {
                fs::create_dir_all(path).map_err(|error| format!("{host}: {error}"))?;
            }
            _ => {}
        }
        let inside =
            mount["mountPath"].as_str().ok_or(format!("{name} is mounted nowhere"))?.to_owned();
        Ok(Self { host: host.to_owned(), inside, read_only: mount["readOnly"] == true })
    }
}
