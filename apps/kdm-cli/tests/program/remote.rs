//! Stores of pairs on object storage, from a server that speaks S3 and is started here (moto, a
//! Python package).

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{Folder, contents, distill, fails, kdm, store, text};

/// Starts a server with an empty bucket `data`, copies the folder that it is given as `data/PREFIX`
/// and tells its address; ends with its standard input.
const SERVER: &str = "
import boto3, os, sys
from moto.server import ThreadedMotoServer
folder, prefix = sys.argv[1:]
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
url = 'http://127.0.0.1:%d' % server.get_host_and_port()[1]
s3 = boto3.client('s3', endpoint_url=url, region_name='us-east-1',
                  aws_access_key_id='key', aws_secret_access_key='secret')
s3.create_bucket(Bucket='data')
for name in os.listdir(folder):
    if not name.startswith('.'):
        s3.upload_file(os.path.join(folder, name), 'data', prefix + '/' + name)
print(url, flush=True)
for line in sys.stdin:
    s3.upload_file(os.path.join(folder, line.strip()), 'data', prefix + '/' + line.strip())
    print('done', flush=True)
server.stop()
";

/// A server with one store.
struct Server {
    child: Child,
    endpoint: String,
    said: BufReader<std::process::ChildStdout>,
}

impl Server {
    /// None, which is told, where it can't be had.
    fn start(folder: &Path, prefix: &str) -> Option<Self> {
        let python = std::env::var("KDM_PYTHON").unwrap_or_else(|_| "python3".into());
        let found = Command::new(&python).args(["-c", "import moto.server, boto3, flask"]).output();
        if !cfg!(feature = "cloud") || !found.is_ok_and(|output| output.status.success()) {
            eprintln!(
                "skipped: this needs a build with `--features cloud`, and `pip install \
                 \"moto[server]\"` for the Python of KDM_PYTHON"
            );
            return None;
        }
        let mut child = Command::new(python)
            .args(["-c", SERVER, folder.to_str().unwrap(), prefix])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut endpoint = String::new();
        said.read_line(&mut endpoint).unwrap();
        assert!(endpoint.starts_with("http://"), "the server starts: {endpoint:?}");
        Some(Self { child, endpoint: endpoint.trim().into(), said })
    }

    /// Copies a file of the folder again.
    fn copy(&mut self, name: &str) {
        use std::io::Write;
        writeln!(self.child.stdin.as_mut().unwrap(), "{name}").unwrap();
        let mut done = String::new();
        self.said.read_line(&mut done).unwrap();
        assert_eq!(done, "done\n");
    }

    /// The program with this server's variables, and a folder of the cache.
    fn kdm(&self, arguments: &[&str], cache: &str) -> Command {
        let mut command = kdm(arguments);
        command.env("AWS_ENDPOINT_URL", &self.endpoint).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.env("KDM_CACHE", cache);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The files of shards in a folder of the cache.
fn cached(cache: &Path) -> usize {
    let stores = fs::read_dir(cache.join("pairs")).into_iter().flatten().flatten();
    let files = stores.flat_map(|store| contents(&store.path()));
    files.filter(|(name, _)| name.contains("shard-")).count()
}

/// A student distilled from a bucket is, to the byte, that of the folder; what is fetched is kept,
/// and two processes at once share it.
#[test]
fn a_store_in_a_bucket_is_read_like_a_folder() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "1500", &["--shard-size 200"]);
    let Some(mut server) = Server::start(Path::new(&pairs), "kdm/pairs") else { return };
    let (address, cache) = ("s3://data/kdm/pairs", folder.at("cache"));
    let done = |arguments: &[&str]| {
        let output = server.kdm(arguments, &cache).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let told = done(&["info", address]);
    assert!(told.contains("pairs: 1500") && told.contains("0 of 8 in the cache"), "{told}");
    assert_eq!(cached(Path::new(&cache)), 0, "what is told of a store needs no pairs");

    let outs = ["here", "first", "second"].map(|name| folder.at(name));
    let here = &outs[0];
    let arguments = |out| distill(if out == here { &pairs } else { address }, out, &[]);
    let both: Vec<Child> = outs[1..]
        .iter()
        .map(|out| {
            let mut command = server.kdm(&arguments(out), &cache);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    done(&arguments(&outs[0]));
    let [here, first, second] =
        outs.each_ref().map(|out| fs::read(format!("{out}/student.safetensors")).unwrap());
    assert!(here == first && here == second, "students of the bucket and of the folder differ");
    assert_eq!(cached(Path::new(&cache)), 8);
    assert!(done(&["pairs verify", address]).contains("1500 pairs in 8 shards are intact"));
    let student = format!("{}/student.safetensors", outs[1]);
    done(&["evaluate --model", &student, "--pairs", address, "--metrics paired"]);

    // A shard that was damaged in the bucket, for a machine that doesn't have it.
    let shard = "shard-00003.safetensors";
    let path = Path::new(&pairs).join(shard);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    server.copy(shard);
    let refused = |arguments: &[&str], parts: &[&str]| {
        let output = server.kdm(arguments, &folder.at("elsewhere")).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    };
    refused(&["pairs verify", address], &["s3://data/kdm/pairs/shard-00003", "checksum", "copy"]);
    refused(&["pairs verify s3://data/nowhere"], &["s3://data/nowhere/manifest.json", "prefix"]);
    refused(&["pairs verify s3://missing/pairs"], &["s3://missing/pairs", "bucket"]);
}

/// A build that reads no object storage says how to have one that does.
#[test]
fn a_build_without_object_storage_says_so() {
    if cfg!(feature = "cloud") {
        return;
    }
    let folder = Folder::new();
    let out = folder.at("out");
    let told = ["s3://data/pairs", "--features cloud"];
    fails(&distill("s3://data/pairs", &out, &[]), 2, &told);
    fails(&["pairs verify s3://data/pairs"], 2, &told);
    fails(&["info s3://data/pairs"], 2, &told);
    assert!(!Path::new(&out).exists());
}
