//! The fuzz targets on their corpus: a crash once found stays found.

#![cfg(all(feature = "rtmp", feature = "http-live", feature = "mp4", feature = "srt", feature = "webrtc"))]

#[path = "fuzz/src/lib.rs"]
mod fuzz;

#[test]
fn each_target_survives_its_corpus() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, target) in fuzz::TARGETS {
        let mut files = 0;
        for file in std::fs::read_dir(corpus.join(name)).unwrap() {
            let path = file.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            println!("{}", path.display());
            target(&data);
            // Ends in every place, too.
            for len in (0..data.len()).step_by(1 + data.len() / 200) {
                target(&data[..len]);
            }
            files += 1;
        }
        assert!(files > 0, "no corpus for {name}");
    }
}
