/// HTTP-FLV by Media Source Extensions: tags to fragments of MP4. H.264, H.265 and AV1; AAC and Opus.
const Flv = (() => {
  const text = (s) => [...s].map((c) => c.charCodeAt(0));
  const u16 = (n) => [n >> 8 & 255, n & 255];
  const u32 = (n) => [n >>> 24, n >>> 16 & 255, n >>> 8 & 255, n & 255];
  const zeros = (n) => new Uint8Array(n);
  function join(parts) {
    const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let place = 0;
    for (const part of parts) { out.set(part, place); place += part.length; }
    return out;
  }
  function box(name, ...parts) {
    const body = join(parts);
    return join([u32(body.length + 8), text(name), body]);
  }
  const full = (name, version, flags, ...parts) => box(name, [version], u32(flags).slice(1), ...parts);
  const hex = (byte) => byte.toString(16).padStart(2, '0').toUpperCase();

  const VIDEO = {
    avc1: { box: 'avcC', codec: (c) => `avc1.${hex(c[1])}${hex(c[2])}${hex(c[3])}` },
    hvc1: {
      box: 'hvcC',
      codec: (c) => {
        const compatible = [...c.slice(2, 6)].reverse().reduce((sum, byte) => {
          let turned = 0;
          for (let bit = 0; bit < 8; bit++) turned |= (byte >> bit & 1) << (7 - bit);
          return sum * 256 + turned;
        }, 0);
        const constraints = [...c.slice(6, 12)];
        while (constraints.length && !constraints.at(-1)) constraints.pop();
        return ['hvc1', `${['', 'A', 'B', 'C'][c[1] >> 6]}${c[1] & 31}`, compatible.toString(16).toUpperCase(),
          `${c[1] & 32 ? 'H' : 'L'}${c[12]}`, ...constraints.map((byte) => byte.toString(16).toUpperCase())].join('.');
      },
    },
    av01: {
      box: 'av1C',
      codec: (c) => `av01.${c[1] >> 5}.${String(c[1] & 31).padStart(2, '0')}${c[2] & 128 ? 'H' : 'M'}.${
        c[2] & 32 ? 12 : c[2] & 64 ? 10 : '08'}`,
    },
  };
  const RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];

  function descriptors(config) {
    const tag = (n, ...parts) => { const body = join(parts); return join([[n, 0x80, 0x80, 0x80, body.length], body]); };
    return full('esds', 0, 0, tag(3, [0, 0, 0], tag(4, [0x40, 0x15, 0, 0, 0], zeros(8), tag(5, config)), tag(6, [2])));
  }

  function init(track) {
    const { video, width, height, scale } = track;
    const matrix = [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30].flatMap(u32);
    const entry = video
      ? box(track.fourcc, zeros(6), u16(1), zeros(16), u16(width), u16(height), u32(0x480000), u32(0x480000), zeros(4), u16(1),
        zeros(32), u16(24), [255, 255], box(VIDEO[track.fourcc].box, track.config))
      : box(track.fourcc, zeros(6), u16(1), zeros(8), u16(track.channels), u16(16), zeros(4), u16(scale), u16(0),
        track.fourcc === 'Opus' ? box('dOps', track.config) : descriptors(track.config));
    const kind = video ? full('vmhd', 0, 1, zeros(8)) : full('smhd', 0, 0, zeros(4));
    const tables = ['stts', 'stsc', 'stco'].map((name) => full(name, 0, 0, zeros(4)));
    return join([
      box('ftyp', text('iso5'), u32(0), text('iso5iso6mp41')),
      box('moov', full('mvhd', 0, 0, zeros(8), u32(1000), zeros(4), u32(1 << 16), u16(256), zeros(10), matrix, zeros(24), u32(2)),
        box('trak', full('tkhd', 0, 3, zeros(8), u32(1), zeros(20), u16(video ? 0 : 256), zeros(2), matrix,
          u16(width), u16(0), u16(height), u16(0)),
        box('mdia', full('mdhd', 0, 0, zeros(8), u32(scale), zeros(4), u16(0x55C4), u16(0)),
          full('hdlr', 0, 0, zeros(4), text(video ? 'vide' : 'soun'), zeros(13)),
          box('minf', kind, box('dinf', full('dref', 0, 0, u32(1), full('url ', 0, 1))),
            box('stbl', full('stsd', 0, 0, u32(1), entry), ...tables, full('stsz', 0, 0, zeros(8)))))),
        box('mvex', full('trex', 0, 0, u32(1), u32(1), zeros(12)))),
    ]);
  }

  function fragment(track, samples) {
    const runs = samples.map((s) => [...u32(s.duration), ...u32(s.data.length), ...u32(s.key ? 0x2000000 : 0x1010000), ...u32(s.cts)]);
    const build = (offset) => box('moof', full('mfhd', 0, 0, u32(track.sequence)), box('traf',
      full('tfhd', 0, 0x20000, u32(1)),
      full('tfdt', 1, 0, u32(Math.floor(samples[0].dts / 2 ** 32)), u32(samples[0].dts >>> 0)),
      full('trun', 1, 0xF01, u32(samples.length), u32(offset), ...runs)));
    track.sequence += 1;
    return join([build(build(0).length + 8), box('mdat', ...samples.map((s) => s.data))]);
  }

  /// Plays `url` in `element`; `tell` is called with each Trouble that ends it. `facts` is kept up to date.
  class Player {
    constructor(element, url, tell) {
      Object.assign(this, { element, tell, facts: { bytes: 0 }, tracks: {}, ended: false, size: [1280, 720], abort: new AbortController() });
      this.source = new (window.ManagedMediaSource || MediaSource)();
      element.disableRemotePlayback = true;
      element.src = URL.createObjectURL(this.source);
      this.source.addEventListener('sourceopen', () => this.read(url), { once: true });
    }

    end() {
      this.ended = true;
      this.abort.abort();
      this.element.removeAttribute('src');
      this.element.load();
    }

    fail(trouble) {
      if (this.ended) return;
      this.end();
      this.tell(trouble);
    }

    async read(url) {
      try {
        const reply = await fetch(url, { signal: this.abort.signal });
        if (!reply.ok) throw new Trouble(await says(reply) || `The server answers ${reply.status}.`, { retry: [404, 503].includes(reply.status), next: reply.status !== 404 });
        const reader = reply.body.getReader();
        let held = new Uint8Array(0);
        let first = true;
        for (;;) {
          const { done, value } = await reader.read();
          if (done) throw new Trouble('The stream has ended.', { retry: true });
          this.facts.bytes += value.length;
          held = held.length ? join([held, value]) : value;
          if (first) {
            if (held.length < 13) continue;
            if (held[0] !== 70 || held[1] !== 76) throw new Trouble('What came is no FLV.', { next: true });
            // Wait for both where the header says that there are both.
            this.both = (held[4] & 5) === 5;
            held = held.subarray(13);
            first = false;
          }
          held = held.subarray(this.tags(held));
          this.flush();
        }
      } catch (error) {
        this.fail(error instanceof Trouble ? error : new Trouble(`The connection broke: ${error.message}`, { retry: true }));
      }
    }

    tags(data) {
      let place = 0;
      while (data.length - place >= 15) {
        const len = data[place + 1] << 16 | data[place + 2] << 8 | data[place + 3];
        if (data.length - place < len + 15) break;
        const dts = (data[place + 4] << 16 | data[place + 5] << 8 | data[place + 6]) + data[place + 7] * 2 ** 24;
        const body = data.slice(place + 11, place + 11 + len);
        if (len > 1) ({ 8: this.audio, 9: this.video, 18: this.words })[data[place] & 31]?.call(this, body, dts);
        place += len + 15;
      }
      return place;
    }

    /// Of onMetaData only how large the picture is.
    words(body) {
      ['width', 'height'].forEach((name, n) => {
        const mark = [0, name.length, ...text(name), 0];
        for (let i = 0; i + mark.length + 8 <= body.length; i++) {
          if (!mark.every((byte, k) => body[i + k] === byte)) continue;
          const value = new DataView(body.buffer, body.byteOffset + i + mark.length).getFloat64(0);
          if (value >= 16 && value <= 16384) this.size[n] = Math.round(value);
          break;
        }
      });
    }

    video(body, dts) {
      const key = (body[0] >> 4 & 7) === 1;
      const name = (at) => String.fromCharCode(...body.slice(at, at + 4));
      let fourcc, kind, data, cts = 0;
      const signed = (i) => (body[i] << 24 | body[i + 1] << 16 | body[i + 2] << 8) >> 8;
      if (body[0] & 128) {
        [fourcc, kind, data] = [name(1), body[0] & 15, body.subarray(5)];
        if (kind === 1 && fourcc !== 'av01') { cts = signed(5); data = body.subarray(8); }
        if (kind === 3) kind = 1;
      } else {
        fourcc = ({ 7: 'avc1', 12: 'hvc1' })[body[0] & 15];
        [kind, cts, data] = [body[1], signed(2), body.subarray(5)];
      }
      if (!VIDEO[fourcc]) {
        this.fail(new Trouble('HTTP-FLV of this picture is nothing a browser plays.', { next: true }));
      } else if (kind === 0) {
        const [width, height] = this.size;
        this.begin('video', { video: true, fourcc, config: data, scale: 1000, width, height, codec: VIDEO[fourcc].codec(data) });
      } else if (kind === 1 && data.length) {
        const track = this.tracks.video;
        if (!track || (!track.started && !key)) return;
        track.started = true;
        const step = dts - track.last;
        if (step > 0 && step < 500) track.step = step;
        track.last = dts;
        track.samples.push({ dts, cts, key, data, duration: track.step || 33 });
      }
    }

    audio(body, dts) {
      const format = body[0] >> 4;
      let fourcc = 'mp4a', kind = body[1], data = body.subarray(2);
      if (format === 9) [fourcc, kind, data] = [String.fromCharCode(...body.slice(1, 5)), body[0] & 15, body.subarray(5)];
      else if (format !== 10) fourcc = '';
      if (fourcc === 'mp4a' && kind === 0) {
        const index = (data[0] & 7) << 1 | data[1] >> 7;
        const channels = data[1] >> 3 & 15;
        this.begin('audio', { fourcc, config: data, scale: RATES[index] || 48000, channels: channels === 7 ? 8 : channels || 2,
          width: 0, height: 0, codec: `mp4a.40.${data[0] >> 3}`, step: 1024 });
      } else if (fourcc === 'Opus' && kind === 0) {
        // OpusHead without its magic, its numbers the other way round.
        const d = data.slice(8, 19);
        const turned = [0, d[1], d[3], d[2], d[7], d[6], d[5], d[4], d[9], d[8], d[10]];
        this.begin('audio', { fourcc, config: new Uint8Array(turned), scale: 48000, channels: d[1], width: 0, height: 0, codec: 'opus', step: 960 });
      } else if (kind === 1 && data.length && this.tracks.audio) {
        const track = this.tracks.audio;
        const due = dts * track.scale / 1000;
        // FLV's milliseconds are rounded; samples are not.
        if (!track.started || Math.abs(due - track.next) > track.scale / 10) track.next = Math.round(due);
        track.started = true;
        track.samples.push({ dts: track.next, cts: 0, key: true, data, duration: track.step });
        track.next += track.step;
      } else if (!fourcc) {
        this.both = false;
        this.facts.note = 'no sound: its codec is none that browsers play by HTTP-FLV';
      }
    }

    begin(kind, facts) {
      const mime = `${kind}/mp4; codecs="${facts.codec}"`;
      if (!(window.ManagedMediaSource || MediaSource).isTypeSupported(mime)) {
        if (kind === 'audio') { this.both = false; this.facts.note = `no sound: this browser does not play ${codecName(facts.codec)}`; return; }
        this.fail(new Trouble(`This browser does not play ${facts.codec}.`, { next: true }));
        return;
      }
      const old = this.tracks[kind];
      const track = Object.assign(old || { sequence: 1, samples: [], queue: [] }, facts, { mime });
      if (old) {
        // The same again is said with each key frame by some encoders.
        if (old.told === facts.config.join()) return;
        this.cut(track);
      }
      track.told = facts.config.join();
      track.queue.push({ mime, init: init(track) });
      this.tracks[kind] = track;
      this.facts[kind] = facts.codec;
    }

    cut(track) {
      if (track.samples.length) track.queue.push({ data: fragment(track, track.samples) });
      track.samples = [];
    }

    /// What has come goes to the browser, once it is known which tracks there are.
    flush() {
      const tracks = Object.values(this.tracks);
      tracks.forEach((track) => this.cut(track));
      this.held = (this.held || 0) + 1;
      if (!tracks.length || (this.both && tracks.length < 2 && this.held < 20)) return;
      for (const track of tracks) {
        if (track.buffer || this.source.readyState !== 'open') continue;
        try {
          track.buffer = this.source.addSourceBuffer(track.mime);
        } catch {
          continue; // sound that came when the picture had begun
        }
        track.buffer.addEventListener('updateend', () => this.feed(track));
      }
      tracks.forEach((track) => this.feed(track));
      this.follow();
    }

    feed(track) {
      const { buffer, queue } = track;
      if (this.ended || !buffer || buffer.updating || this.source.readyState !== 'open') return;
      const { currentTime, error } = this.element;
      if (error) { this.fail(new Trouble(`The browser can't decode it: ${error.message}`, { next: true })); return; }
      try {
        const begins = buffer.buffered.length ? buffer.buffered.start(0) : 0;
        if (currentTime - begins > 30) { buffer.remove(0, currentTime - 10); return; }
        const next = queue.shift();
        if (!next) return;
        if (next.mime && buffer.changeType) buffer.changeType(next.mime);
        buffer.appendBuffer(next.init || next.data);
      } catch (problem) {
        this.fail(new Trouble(`The browser does not take it: ${problem.message}`, { retry: problem.name === 'QuotaExceededError', next: true }));
      }
    }

    /// Stays near what is newest.
    follow() {
      const { buffered } = this.element;
      if (!buffered.length) return;
      const end = buffered.end(buffered.length - 1);
      const begin = buffered.start(buffered.length - 1);
      const behind = end - this.element.currentTime;
      this.facts.behind = behind;
      if (behind > 4 || this.element.currentTime < begin) this.element.currentTime = Math.max(begin, end - 0.8);
      else this.element.playbackRate = behind > 1.5 ? 1.08 : 1;
    }
  }
  return Player;
})();
