//! Where segments begin and end.

/// How a stream is cut. Times are ticks of 90 kHz.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub segment: i64,
    /// A segment ends at any frame when it is so long.
    pub overflow: i64,
    /// Whether there is a video track, which tells where to cut.
    pub video: bool,
    pub wait_keyframe: bool,
}

/// Key frames so far apart are regular, and waited for whatever `overflow` says: encoders that nobody has told otherwise
/// send one each eight to ten seconds, and players can't start with segments that begin in between.
const REGULAR: i64 = 10 * 90_000;
/// Without any key frame for so long, a stream begins with what there is.
const KEYLESS: i64 = 10 * 90_000;

/// Frames are decoded at most this long before they are shown: what is beyond is an encoder's mistake.
const REORDERED: i64 = 90_000;

/// What a frame is to a [`Cutter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Of the main video track.
    Main {
        /// A decoder can start here.
        key: bool,
    },
    /// Of another track.
    Other,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It comes before there is anything to begin with.
    Drop,
    /// It belongs to the segment that grows.
    Keep,
    /// A segment begins with it; one that grows ends before it.
    Begin {
        /// Whether a decoder can start with it.
        independent: bool,
    },
}

/// Finds the places where segments begin, in frames that are in order.
#[derive(Debug)]
pub(super) struct Cutter {
    rules: Rules,
    /// Where the segment that grows began.
    start: Option<i64>,
    /// When its first frame is shown. Key frames are shown at even distances; when they are decoded they are not, at a
    /// stream's start and where encoders change how many frames they put in order.
    shown: i64,
    /// Since when a key frame is waited for.
    waiting: Option<i64>,
    last_key: Option<i64>,
    /// Between the last two key frames.
    gop: i64,
    /// The next frame begins a segment, whatever it is.
    force: bool,
}

impl Cutter {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, start: None, shown: 0, waiting: None, last_key: None, gop: 0, force: false }
    }

    /// The stream goes on after a break: the segment that grew is done. `key`: decoders start anew.
    pub(super) fn restart(&mut self, rules: Rules, key: bool) {
        self.rules = rules;
        self.start = None;
        self.waiting = None;
        self.last_key = None;
        self.force = !key;
    }

    /// By other rules, a segment begins at this time.
    pub(super) fn resume(&mut self, rules: Rules, time: i64) {
        self.restart(rules, true);
        (self.start, self.shown) = (Some(time), time);
    }

    /// Ends the segment at the next frame.
    pub(super) fn force(&mut self) {
        self.force = true;
    }

    /// How long a segment may be at most.
    pub(super) fn limit(&self) -> i64 {
        let regular = if self.gop <= REGULAR { self.gop.saturating_add(self.gop / 10) } else { 0 };
        self.rules.overflow.max(regular)
    }

    /// A frame that is decoded at `time` and shown at `shown`.
    pub(super) fn frame(&mut self, time: i64, shown: i64, role: Role) -> Verdict {
        let key = role == Role::Main { key: true };
        let independent = key || !self.rules.video;
        if key && let Some(last) = self.last_key.replace(time) {
            self.gop = time.saturating_sub(last).max(0);
        }
        let Some(start) = self.start else {
            let waited = time.saturating_sub(*self.waiting.get_or_insert(time));
            let begins =
                independent || self.force || !self.rules.wait_keyframe || waited > KEYLESS.min(self.limit());
            return if begins { self.begin(time, shown, independent) } else { Verdict::Drop };
        };
        let elapsed = time.saturating_sub(start);
        // Frames are not at even milliseconds: a segment that is a little too short is better than one twice as long.
        let length = shown.saturating_sub(self.shown).clamp(elapsed, elapsed.saturating_add(REORDERED));
        let enough = length >= self.rules.segment - self.rules.segment / 20;
        let any = !self.rules.wait_keyframe && matches!(role, Role::Main { .. });
        let cut = (enough && (key || any)) || elapsed >= self.limit() || self.force;
        // What comes late belongs to the segment that is there.
        if cut && elapsed > 0 { self.begin(time, shown, independent) } else { Verdict::Keep }
    }

    fn begin(&mut self, time: i64, shown: i64, independent: bool) -> Verdict {
        (self.start, self.shown, self.waiting, self.force) = (Some(time), shown, None, false);
        Verdict::Begin { independent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { segment: 180_000, overflow: 378_000, video: true, wait_keyframe: true };

    /// Begins of segments in ms, with `*` at key frames, of video with a key frame each `gop` frames of 40 ms.
    fn cuts(rules: Rules, gop: i64, frames: std::ops::Range<i64>) -> Vec<String> {
        let mut cutter = Cutter::new(rules);
        let mut out = Vec::new();
        for n in frames {
            let key = gop > 0 && n % gop == 0;
            let role = if rules.video { Role::Main { key } } else { Role::Other };
            if let Verdict::Begin { independent } = cutter.frame(n * 3600, n * 3600, role) {
                out.push(format!("{}{}", n * 40, if independent { "*" } else { "" }));
            }
        }
        out
    }

    #[test]
    fn segments_begin_at_key_frames() {
        assert_eq!(cuts(RULES, 25, 10..200), ["1000*", "3000*", "5000*", "7000*"]);
        // 49 frames are 1.96 s.
        assert_eq!(cuts(RULES, 49, 0..200), ["0*", "1960*", "3920*", "5880*", "7840*"]);
        assert_eq!(cuts(Rules { wait_keyframe: false, ..RULES }, 200, 0..130), ["0*", "1920", "3840"]);
    }

    #[test]
    fn key_frames_too_far_apart_are_not_waited_for() {
        // 40 s: cut at 4.2 s each.
        assert_eq!(cuts(RULES, 1000, 0..320), ["0*", "4200", "8400", "12600"]);
        // 8 s, as x264's default: once it is known, waited for.
        assert_eq!(cuts(RULES, 200, 0..700), ["0*", "4200", "8000*", "16000*", "24000*"]);
    }

    #[test]
    fn streams_without_key_frames_begin_after_a_while() {
        assert_eq!(cuts(RULES, 0, 0..320), ["4240", "8440", "12640"]);
    }

    #[test]
    fn the_first_key_frames_may_be_decoded_at_uneven_distances() {
        let mut cutter = Cutter::new(RULES);
        let mut begins = |time: i64, shown: i64| {
            cutter.frame(time * 90, shown * 90, Role::Main { key: true }) != Verdict::Keep
        };
        assert!(begins(0, 125));
        assert!(begins(1877, 2127) && begins(3879, 4129));
    }

    #[test]
    fn sound_is_cut_by_time() {
        let sound = Rules { video: false, ..RULES };
        assert_eq!(cuts(sound, 0, 0..240), ["0*", "4200*", "8400*"]);
    }

    #[test]
    fn breaks_and_monsters_are_cut_at_once() {
        let mut cutter = Cutter::new(RULES);
        let key = Role::Main { key: true };
        assert_eq!(cutter.frame(0, 0, key), Verdict::Begin { independent: true });
        cutter.force();
        assert_eq!(cutter.frame(0, 0, Role::Other), Verdict::Keep, "not without a frame in it");
        assert_eq!(cutter.frame(-5, -5, Role::Other), Verdict::Keep, "late");
        assert_eq!(cutter.frame(10, 10, Role::Other), Verdict::Begin { independent: false });
        cutter.restart(RULES, true);
        assert_eq!(cutter.frame(20, 20, Role::Other), Verdict::Drop);
        assert_eq!(cutter.frame(30, 30, key), Verdict::Begin { independent: true });
        cutter.restart(RULES, false);
        assert_eq!(cutter.frame(40, 40, Role::Other), Verdict::Begin { independent: false });
    }
}
