const video = at('video');
const via = new URLSearchParams(location.search).get('via') || '';
const NAMES = { webrtc: 'WebRTC', flv: 'HTTP-FLV', hls: 'HLS' };
let current = null; // what plays: { end(), facts() }
let attempt = 0;

const ways = {
  async webrtc(mine) {
    const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    const media = new MediaStream();
    let broken = null;
    peer.addTransceiver('video', { direction: 'recvonly' });
    peer.addTransceiver('audio', { direction: 'recvonly' });
    peer.addEventListener('track', ({ track }) => media.addTrack(track));
    let end;
    try {
      end = await negotiate(peer, 'whep');
      await connected(peer, 8);
    } catch (error) {
      if (end) end(); else peer.close();
      throw error;
    }
    if (mine !== attempt) { end(); return null; }
    video.srcObject = media;
    peer.addEventListener('connectionstatechange', () => {
      if (['failed', 'closed'].includes(peer.connectionState)) broken ??= ended(mine, new Trouble('The stream has ended, or the connection broke.', { retry: true }));
    });
    let before = { bytes: 0, frames: 0, time: performance.now(), delay: 0, emitted: 0, picture: -1, still: 0 };
    const facts = async () => {
      const stats = [...(await peer.getStats()).values()];
      const of = (kind) => stats.find((s) => s.type === 'inbound-rtp' && s.kind === kind);
      const codec = (kind) => { const s = of(kind); return s && s.bytesReceived ? codecName(stats.find((c) => c.id === s.codecId)?.mimeType) : ''; };
      const pair = stats.find((s) => s.type === 'candidate-pair' && s.nominated);
      const [picture, sound] = [of('video'), of('audio')];
      const now = performance.now();
      const seconds = (now - before.time) / 1000;
      const bytes = (picture?.bytesReceived || 0) + (sound?.bytesReceived || 0);
      const main = picture?.framesDecoded ? picture : sound;
      const emitted = (main?.jitterBufferEmittedCount || 0) - before.emitted;
      const waits = emitted > 0 ? ((main.jitterBufferDelay || 0) - before.delay) / emitted : 0;
      const latency = (pair?.currentRoundTripTime || 0) / 2 + waits;
      const frames = picture?.framesDecoded || 0;
      const lost = (picture?.packetsLost || 0) + (sound?.packetsLost || 0);
      const still = bytes === before.bytes ? before.still + seconds : 0;
      if (still > 10) broken ??= ended(mine, new Trouble('Nothing comes any more.', { retry: true }));
      const shown = {
        Picture: codec('video') && `${codec('video')}, ${video.videoWidth} × ${video.videoHeight}`,
        Sound: codec('audio'),
        'Frame rate': frames && `${Math.round(Math.max(0, frames - before.frames) / seconds)} per second`,
        'Bit rate': bits(8 * (bytes - before.bytes) / seconds),
        Latency: latency > 0 && `${Math.round(latency * 1000)} ms after it came`,
        Lost: `${lost} ${lost === 1 ? 'packet' : 'packets'}`,
        Freezes: picture?.freezeCount ? String(picture.freezeCount) : '',
      };
      before = { bytes, frames, time: now, delay: main?.jitterBufferDelay || 0, emitted: main?.jitterBufferEmittedCount || 0, still };
      return shown;
    };
    return { end, facts };
  },

  async flv(mine) {
    if (!(window.ManagedMediaSource || window.MediaSource)) throw new Trouble('This browser has no Media Source Extensions.', { next: true });
    // Whether there is something is asked first: an element that waits shows nothing.
    const player = await new Promise((done, fail) => {
      let started = false;
      const flv = new Flv(video, urlOf('.flv'), (trouble) => (started ? ended(mine, trouble) : fail(trouble)));
      video.addEventListener('loadeddata', () => { started = true; done(flv); }, { once: true });
      setTimeout(() => { if (!started) { flv.end(); fail(new Trouble('Nothing to show came by HTTP-FLV.', { next: true })); } }, 15000);
    });
    if (mine !== attempt) { player.end(); return null; }
    let before = { bytes: player.facts.bytes, frames: 0, time: performance.now() };
    const facts = async () => {
      const now = performance.now();
      const seconds = (now - before.time) / 1000;
      const frames = video.getVideoPlaybackQuality?.().totalVideoFrames || 0;
      const { bytes, behind } = player.facts;
      const shown = {
        Picture: player.facts.video && `${codecName(player.facts.video)}, ${video.videoWidth} × ${video.videoHeight}`,
        Sound: codecName(player.facts.audio),
        'Frame rate': frames && `${Math.round(Math.max(0, frames - before.frames) / seconds)} per second`,
        'Bit rate': bits(8 * (bytes - before.bytes) / seconds),
        Latency: behind > 0 && `${behind.toFixed(1)} s after it came`,
      };
      if (player.facts.note) at('note').textContent = `There is ${player.facts.note}.`;
      before = { bytes, frames, time: now };
      return shown;
    };
    return { end: () => player.end(), facts };
  },

  async hls(mine) {
    if (!video.canPlayType('application/vnd.apple.mpegurl')) throw new Trouble('This browser does not play HLS.', { next: true });
    const url = urlOf('.m3u8');
    const reply = await fetch(url).catch(() => { throw new Trouble('The server does not answer.', { retry: true }); });
    if (!reply.ok) throw new Trouble(await says(reply) || `The server answers ${reply.status}.`, { retry: true });
    await new Promise((done, fail) => {
      video.src = url;
      video.addEventListener('loadeddata', done, { once: true });
      video.addEventListener('error', () => fail(new Trouble(`The browser can't play it: ${video.error?.message || 'no reason given'}`, { next: true })), { once: true });
    });
    video.onerror = () => ended(mine, new Trouble('The stream has ended.', { retry: true }));
    const facts = async () => {
      const { seekable } = video;
      const behind = seekable.length ? seekable.end(seekable.length - 1) - video.currentTime : 0;
      return { Picture: video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : '', Latency: behind > 0 && `${behind.toFixed(1)} s after it came` };
    };
    return { end() { video.onerror = null; video.removeAttribute('src'); video.load(); }, facts };
  },
};

function stop() {
  current?.end();
  current = null;
  video.srcObject = null;
}

/// It was playing, and is no more.
function ended(mine, trouble) {
  if (mine !== attempt) return true;
  stop();
  again(mine, trouble);
  return true;
}

function again(mine, trouble) {
  show({});
  state(`${trouble.message} ${trouble.retry ? 'Trying again …' : ''}`, trouble.retry ? { busy: true } : { button: 'Try again' });
  if (trouble.retry) setTimeout(() => { if (mine === attempt) play(); }, 2000);
}

async function play() {
  const mine = ++attempt;
  stop();
  const chosen = at('via').value;
  at('name').textContent = stream;
  state(`Connecting to ${stream} …`, { busy: true });
  at('note').textContent = '';
  const reasons = [];
  for (const way of chosen ? [chosen] : ['webrtc', 'flv', 'hls']) {
    try {
      const playing = await ways[way](mine);
      if (mine !== attempt) return;
      current = { ...playing, way };
      document.body.dataset.playing = way;
      state('');
      video.play().catch(() => state('', { button: '' }) || state('Press to play.', { button: 'Play' }));
      if (reasons.length) at('note').textContent = `By ${NAMES[way]}, since: ${reasons.join(' ')}`;
      return;
    } catch (error) {
      if (mine !== attempt) return;
      const trouble = error instanceof Trouble ? error : new Trouble(error.message || String(error), { next: true });
      if (!trouble.next || chosen) { again(mine, trouble); return; }
      reasons.push(`${NAMES[way]}: ${trouble.message}`);
    }
  }
  again(mine, new Trouble(`It can't be played here. ${reasons.join(' ')}`));
}

setInterval(async () => {
  const playing = current;
  if (!playing) { delete document.body.dataset.playing; return; }
  const facts = await playing.facts().catch(() => null);
  if (facts && playing === current) show({ By: NAMES[playing.way], ...facts });
}, 1000);

at('stream').value = stream;
at('via').value = via in NAMES ? via : '';
at('other').href = `/publish/${stream}${rest()}`;
at('form').addEventListener('submit', (event) => {
  event.preventDefault();
  stream = at('stream').value.trim().replace(/^\/+|\/+$/g, '') || 'live/demo';
  if (!stream.includes('/')) stream = `live/${stream}`;
  at('stream').value = stream;
  at('other').href = `/publish/${stream}${rest()}`;
  const place = new URL(`/player/${stream}${rest()}`, location);
  if (at('via').value) place.searchParams.set('via', at('via').value);
  history.replaceState(null, '', place);
  play();
});
at('press').addEventListener('click', () => { if (current) { state(''); video.play(); } else play(); });
const tellSound = () => { at('sound').textContent = video.muted ? 'Sound on' : 'Sound off'; };
at('sound').addEventListener('click', () => { video.muted = !video.muted; video.play().catch(() => {}); });
video.addEventListener('volumechange', tellSound);
at('full').addEventListener('click', () => (at('screen').requestFullscreen ? at('screen').requestFullscreen() : video.webkitEnterFullscreen?.()));
addEventListener('pagehide', stop);
addEventListener('pageshow', (event) => { if (event.persisted) play(); });
play();
