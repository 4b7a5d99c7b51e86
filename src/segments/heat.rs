//! What many viewers fetch: it is laid into a file in memory, from which the kernel gives it to each of them.

#[cfg(all(feature = "http", target_os = "linux"))]
pub use here::Heat;

/// Nothing is laid anywhere in this build.
#[cfg(not(all(feature = "http", target_os = "linux")))]
#[derive(Debug, Default)]
pub struct Heat;

#[cfg(all(feature = "http", target_os = "linux"))]
mod here {
    use std::fs::File;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
    use std::sync::{Arc, OnceLock};

    use bytes::Bytes;

    use crate::net::http::in_memory;

    /// So many have to ask for something before it is worth a file.
    const HOT: u32 = 12;
    /// The most files, and what they may hold together. They are descriptors and memory beside what the segments have.
    const MOST_FILES: usize = 64;
    const MOST_BYTES: usize = 32 << 20;

    static FILES: AtomicUsize = AtomicUsize::new(0);
    static BYTES: AtomicUsize = AtomicUsize::new(0);

    /// How many want something, and the file for them once there are enough.
    #[derive(Debug, Default)]
    pub struct Heat {
        asked: AtomicU32,
        file: OnceLock<Option<Held>>,
    }

    #[derive(Debug)]
    struct Held {
        file: Arc<File>,
        bytes: usize,
    }

    impl Heat {
        /// Someone asks for some of `chunks`, which are `len` bytes: the file that holds them, if there is one.
        pub(in crate::segments) fn file(&self, chunks: &[Bytes], len: u64) -> Option<Arc<File>> {
            if self.asked.load(Ordering::Relaxed) < HOT {
                self.asked.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            let held = self.file.get_or_init(|| Held::of(chunks, usize::try_from(len).ok()?));
            held.as_ref().map(|held| Arc::clone(&held.file))
        }
    }

    impl Held {
        fn of(chunks: &[Bytes], bytes: usize) -> Option<Self> {
            let files = FILES.fetch_add(1, Ordering::Relaxed);
            let before = BYTES.fetch_add(bytes, Ordering::Relaxed);
            let fits = files < MOST_FILES && before.saturating_add(bytes) <= MOST_BYTES;
            let file = if fits { in_memory(chunks).ok() } else { None };
            if file.is_none() {
                give_back(bytes);
            }
            file.map(|file| Self { file: Arc::new(file), bytes })
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            give_back(self.bytes);
        }
    }

    fn give_back(bytes: usize) {
        FILES.fetch_sub(1, Ordering::Relaxed);
        BYTES.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_many_want_gets_a_file() {
            use std::os::unix::fs::FileExt;
            let chunks = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
            let heat = Heat::default();
            for _ in 0..HOT {
                assert!(heat.file(&chunks, 3).is_none());
            }
            let file = heat.file(&chunks, 3).unwrap();
            let mut all = [0; 3];
            file.read_exact_at(&mut all, 0).unwrap();
            assert_eq!(&all, b"abc");
            let large = Heat::default();
            for _ in 0..=HOT {
                assert!(large.file(&chunks, MOST_BYTES as u64 + 1).is_none(), "too much");
            }
        }
    }
}
