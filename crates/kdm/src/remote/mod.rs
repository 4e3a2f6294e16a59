//! Stores of pairs on object storage. Their files are fetched into a folder of the [`cache`],
//! compared with the checksums of the store's manifest, and read there as any store is.
//!
//! A store's folder in the cache is named by its manifest's hash: a store that has grown is another
//! one, and of a folder that is there only what is missing or damaged is fetched. Processes of one
//! machine share it: one of them fetches, and the others wait.

#[cfg(feature = "cloud")]
mod s3;
#[cfg(not(feature = "cloud"))]
mod without;

use std::fs::{self, File, TryLockError};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use kdm_data::hash::sha256;
use kdm_data::pairs::{MANIFEST, Manifest};
use kdm_data::{Error, atomic};
use kdm_observer::{Observer, Stopped};

use crate::{Failure, Outcome, cache};

#[cfg(feature = "cloud")]
use s3::open;
#[cfg(not(feature = "cloud"))]
use without::open;

/// How a store on object storage is named: `s3://BUCKET/PREFIX`.
pub const SCHEME: &str = "s3://";

/// Which files of a store are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// What is known of it.
    Manifest,
    /// The first pairs, so many of them.
    First(usize),
    /// All pairs.
    All,
}

/// Where a store lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The bucket.
    pub bucket: String,
    /// What the names of the store's files begin with, without a slash at its end; empty for files
    /// that lie in the bucket itself.
    pub prefix: String,
}

impl Address {
    /// The address that a path is; none for a path of this machine.
    ///
    /// ```
    /// use kdm::remote::Address;
    ///
    /// let address = Address::find("s3://data/kdm/pairs/".as_ref()).unwrap();
    /// assert_eq!((address.bucket.as_str(), address.prefix.as_str()), ("data", "kdm/pairs"));
    /// assert_eq!(address.object("manifest.json"), "kdm/pairs/manifest.json");
    /// assert_eq!(Address::find("pairs".as_ref()), None);
    /// ```
    pub fn find(path: &Path) -> Option<Self> {
        let (bucket, prefix) = {
            let rest = path.to_str()?.strip_prefix(SCHEME)?;
            rest.split_once('/').unwrap_or((rest, ""))
        };
        Some(Self { bucket: bucket.into(), prefix: prefix.trim_matches('/').into() })
    }

    /// The name of a file's object.
    pub fn object(&self, file: &str) -> String {
        if self.prefix.is_empty() { file.into() } else { format!("{}/{file}", self.prefix) }
    }

    /// How a person names a file of the store.
    fn shown(&self, file: &str) -> PathBuf {
        format!("{SCHEME}{}/{}", self.bucket, self.object(file)).into()
    }
}

/// The files of one store, by their names in it.
trait Objects: Sync {
    /// A file's bytes.
    ///
    /// # Errors
    /// When it is not there or can't be had.
    fn get(&self, file: &str) -> Outcome<Vec<u8>>;
}

/// The folder of this machine with the files of a store that are needed, whole and compared with
/// their checksums: one of the cache, where the path is that of a store on object storage. None for
/// any other path.
///
/// # Errors
/// When the build knows of no object storage, the store can't be had or isn't whole, the cache
/// can't be written, or the observer stops the fetching; what was fetched is kept.
pub fn fetched(path: &Path, needed: Needed, observer: &dyn Observer) -> Outcome<Option<PathBuf>> {
    let Some(address) = Address::find(path) else { return Ok(None) };
    if address.bucket.is_empty() {
        return Err(Failure::Usage(format!(
            "{}: it names no bucket; give {SCHEME}BUCKET/PREFIX",
            path.display()
        )));
    }
    let objects = open(&address)?;
    fetch_into(&cache::folder(), &address, &objects, needed, observer).map(Some)
}

/// [`fetched`] from `objects` into a folder of `cache`.
fn fetch_into(
    cache: &Path,
    address: &Address,
    objects: &impl Objects,
    needed: Needed,
    observer: &dyn Observer,
) -> Outcome<PathBuf> {
    let bytes = objects.get(MANIFEST)?;
    let folder = cache.join("pairs").join(&sha256(&bytes)[..32]);
    atomic::create_folder(&folder)?;
    let path = folder.join(MANIFEST);
    if fs::read(&path).ok().as_ref() != Some(&bytes) {
        atomic::write(&path, &bytes)?;
    }
    let manifest = Manifest::read(&folder)?;
    let pairs = match needed {
        Needed::Manifest => 0,
        Needed::First(count) => count.min(manifest.count),
        Needed::All => manifest.count,
    };
    if pairs > 0 && !manifest.is_complete() {
        let problem = "the store is unfinished: not all of its pairs were drawn when it was copied";
        let action = "finish it where it is drawn, and copy it again";
        return Err(Error::invalid(address.shown(MANIFEST), "shards", problem, action).into());
    }
    let shards = 0..pairs.div_ceil(manifest.shard_size);
    let store = Store { address, objects, folder: &folder, manifest: &manifest };
    store.fetch(shards, observer)?;
    Ok(folder)
}

/// Files that are fetched at a time.
const AT_A_TIME: usize = 4;
/// How long a process waits before it looks again whether another has fetched.
const PAUSE: Duration = Duration::from_millis(50);
/// The lock in a store's folder of the cache.
const LOCK: &str = ".fetching";

/// A store that is fetched into a folder.
struct Store<'a, O> {
    address: &'a Address,
    objects: &'a O,
    folder: &'a Path,
    manifest: &'a Manifest,
}

impl<O: Objects> Store<'_, O> {
    /// Fetches those of the shards that are missing or damaged in the folder.
    fn fetch(&self, shards: Range<usize>, observer: &dyn Observer) -> Outcome<()> {
        if shards.is_empty() {
            return Ok(());
        }
        let _held = lock(self.folder, observer)?;
        let total = shards.len();
        let (next, stopped) = (AtomicUsize::new(shards.start), AtomicBool::new(false));
        let mut progress = observer.begin("fetch", "shards");
        thread::scope(|scope| {
            let (done, finished) = channel();
            for _ in 0..AT_A_TIME.min(total) {
                let (done, next, stopped) = (done.clone(), &next, &stopped);
                let last = shards.end;
                scope.spawn(move || {
                    while !stopped.load(Ordering::Relaxed) {
                        let k = next.fetch_add(1, Ordering::Relaxed);
                        if k >= last || done.send(self.fetch_shard(k)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(done);
            let mut fetched = 0;
            let all = finished.into_iter().enumerate().try_for_each(|(i, result)| -> Outcome<()> {
                fetched += usize::from(result?);
                Ok(progress.advance(i as u64 + 1, total as u64, "")?)
            });
            stopped.store(true, Ordering::Relaxed);
            all.map(|()| fetched)
        })
        .map(|fetched| {
            progress.finish(&match fetched {
                0 => "all shards were in the cache".into(),
                _ => format!("{fetched} shards are in {}", self.folder.display()),
            });
        })
    }

    /// Has a shard in the folder; tells whether it had to be fetched.
    fn fetch_shard(&self, k: usize) -> Outcome<bool> {
        let record = &self.manifest.shards[k];
        let path = self.manifest.shard_path(self.folder, k);
        if fs::read(&path).is_ok_and(|bytes| sha256(&bytes) == record.sha256) {
            return Ok(false);
        }
        let bytes = self.objects.get(&record.file)?;
        let found = sha256(&bytes);
        if found != record.sha256 {
            let problem = format!(
                "its SHA-256 is {found:.12}..., and the store's manifest says {:.12}...",
                record.sha256
            );
            let action = "copy the store to the bucket again, from where `kdm pairs verify` finds \
                          it intact";
            let shown = self.address.shown(&record.file);
            return Err(Error::invalid(shown, "checksum", problem, action).into());
        }
        atomic::write(&path, &bytes)?;
        Ok(true)
    }
}

/// The lock of a store's folder, once no other process fetches into it. On a file system without
/// locks processes may fetch the same; files are written whole there too.
fn lock(folder: &Path, observer: &dyn Observer) -> Outcome<File> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(Error::io("write", &path))?;
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        if observer.stopping() {
            return Err(Stopped.into());
        }
        thread::sleep(PAUSE);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_data::Labels;
    use kdm_data::pairs::{PairStore, Worker, generate};
    use kdm_observer::Silent;
    use std::sync::Mutex;

    /// A store's folder in place of a bucket, which counts what is asked for.
    struct Local {
        folder: tempfile::TempDir,
        asked: Mutex<Vec<String>>,
    }

    impl Local {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let plan = Manifest { shard_size: 8, ..Manifest::seeded(7, 1.0, &[2], 44) };
            let mut teacher = |noise: &[f32], _: &Labels| noise.iter().map(|x| 0.5 * x).collect();
            let (at, alone) = (folder.path(), Worker::ALONE);
            generate(at, &plan, alone, 16, &mut teacher, "pairs", &Silent).unwrap();
            Self { folder, asked: Mutex::default() }
        }

        fn asked(&self) -> Vec<String> {
            let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
            asked.retain(|file| file != MANIFEST);
            asked.sort();
            asked
        }
    }

    impl Objects for Local {
        fn get(&self, file: &str) -> Outcome<Vec<u8>> {
            self.asked.lock().unwrap().push(file.into());
            let path = self.folder.path().join(file);
            Ok(fs::read(&path).map_err(Error::io("read", &path))?)
        }
    }

    fn address() -> Address {
        Address::find("s3://data/pairs".as_ref()).unwrap()
    }

    #[test]
    fn what_is_needed_is_fetched_once() {
        let (cache, bucket) = (tempfile::tempdir().unwrap(), Local::new());
        let fetch = |needed| fetch_into(cache.path(), &address(), &bucket, needed, &Silent);
        let folder = fetch(Needed::Manifest).unwrap();
        assert_eq!(bucket.asked(), [""; 0]);
        fetch(Needed::First(9)).unwrap();
        assert_eq!(bucket.asked(), ["shard-00000.safetensors", "shard-00001.safetensors"]);
        assert_eq!(PairStore::open_part(&folder, 0..9).unwrap().len(), 44);
        assert_eq!(fetch(Needed::All).unwrap(), folder);
        assert_eq!(bucket.asked().len(), 4);
        fetch(Needed::All).unwrap();
        assert_eq!(bucket.asked(), [""; 0]);
        let [ours, theirs] = [&folder, bucket.folder.path()]
            .map(|place| PairStore::open_verified(place).unwrap().range(0..44));
        assert_eq!(ours, theirs);

        // A file of the cache that is damaged is fetched again.
        fs::write(folder.join("shard-00003.safetensors"), "damaged").unwrap();
        fetch(Needed::All).unwrap();
        assert_eq!(bucket.asked(), ["shard-00003.safetensors"]);
        assert!(PairStore::open_verified(&folder).is_ok());
    }

    #[test]
    fn several_who_fetch_at_once_fetch_once() {
        let (cache, bucket) = (tempfile::tempdir().unwrap(), Local::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let (at, address) = (cache.path(), address());
                    let folder = fetch_into(at, &address, &bucket, Needed::All, &Silent).unwrap();
                    PairStore::open_verified(&folder).unwrap();
                });
            }
        });
        assert_eq!(bucket.asked().len(), 6);
    }

    #[test]
    fn files_that_are_not_the_stores_are_refused() {
        let (cache, bucket) = (tempfile::tempdir().unwrap(), Local::new());
        let fetch = || fetch_into(cache.path(), &address(), &bucket, Needed::All, &Silent);
        let shard = bucket.folder.path().join("shard-00002.safetensors");
        let mut bytes = fs::read(&shard).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&shard, bytes).unwrap();
        let message = fetch().unwrap_err().to_string();
        assert!(message.contains("s3://data/pairs/shard-00002.safetensors"), "{message}");
        assert!(message.contains("checksum") && message.contains("copy the store"), "{message}");
        fs::remove_file(shard).unwrap();
        assert!(fetch().unwrap_err().to_string().contains("shard-00002"));
    }

    #[test]
    fn a_bucket_has_a_name() {
        let failure = fetched("s3://".as_ref(), Needed::All, &Silent).unwrap_err();
        assert!(failure.to_string().contains("s3://BUCKET/PREFIX"), "{failure}");
        assert_eq!(fetched("pairs".as_ref(), Needed::All, &Silent).unwrap(), None);
    }
}
