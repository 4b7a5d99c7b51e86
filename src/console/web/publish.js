const video = at('video');
let media = null; // what the camera gives
let session = null; // { peer, end }
let attempt = 0;
let wants = false; // to be live

const SCREEN = 'screen';
const problems = {
  NotAllowedError: 'This page may not use the camera or microphone: allow it in the browser, near the address.',
  NotFoundError: 'There is no camera or microphone of that kind.',
  NotReadableError: 'The camera or microphone is in use by another program.',
  OverconstrainedError: 'The camera can\'t do that size.',
};

async function capture() {
  if (!navigator.mediaDevices) {
    throw new Trouble(`Browsers give camera and microphone only to pages they trust: open this page by https, or on the server itself as http://localhost:${location.port || 80}.`);
  }
  const [width, height] = at('size').value.split(' × ').map(Number);
  const [picture, sound] = [at('picture').value, at('sound').value];
  const size = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 } };
  const mic = sound !== 'none' && { echoCancellation: true, ...(sound && { deviceId: { exact: sound } }) };
  if (picture === 'none' && !mic) throw new Trouble('Choose a picture, sound, or both.');
  try {
    if (picture !== SCREEN) {
      return await navigator.mediaDevices.getUserMedia({ video: picture !== 'none' && { ...size, ...(picture && { deviceId: { exact: picture } }) }, audio: mic });
    }
    if (!navigator.mediaDevices.getDisplayMedia) throw new Trouble('This browser can\'t show its screen.');
    const shown = await navigator.mediaDevices.getDisplayMedia({ video: size, audio: true });
    if (mic && !shown.getAudioTracks().length) {
      const voice = await navigator.mediaDevices.getUserMedia({ audio: mic }).catch(() => null);
      voice?.getTracks().forEach((track) => shown.addTrack(track));
    }
    return shown;
  } catch (error) {
    throw error instanceof Trouble ? error : new Trouble(problems[error.name] || error.message);
  }
}

/// Cameras have names only once one was allowed.
async function devices() {
  const all = await navigator.mediaDevices?.enumerateDevices().catch(() => []) || [];
  for (const [id, kind] of [['picture', 'videoinput'], ['sound', 'audioinput']]) {
    const select = at(id);
    const chosen = select.value;
    select.querySelectorAll('[data-device]').forEach((option) => option.remove());
    for (const { deviceId, label } of all.filter((device) => device.kind === kind && device.label && device.deviceId !== 'default')) {
      const option = new Option(label.replace(/ \([0-9a-f]{4}:[0-9a-f]{4}\)$/, ''), deviceId);
      option.dataset.device = '';
      select.append(option);
    }
    select.value = [...select.options].some((option) => option.value === chosen) ? chosen : '';
  }
}

function codecs() {
  const known = RTCRtpSender.getCapabilities?.('video')?.codecs || [];
  for (const [name, mime] of [['H.264', 'video/H264'], ['H.265', 'video/H265'], ['VP8', 'video/VP8'], ['VP9', 'video/VP9'], ['AV1', 'video/AV1']]) {
    if (known.some((codec) => codec.mimeType === mime)) at('codec').append(new Option(name, mime));
  }
}

async function start() {
  const mine = ++attempt;
  wants = true;
  busy(true);
  try {
    if (!media || !media.active) {
      state('Waiting for camera and microphone …', { busy: true });
      media = await capture();
      if (mine !== attempt) { media.getTracks().forEach((track) => track.stop()); media = null; return; }
      video.srcObject = media;
      video.classList.toggle('mirror', at('picture').value !== SCREEN);
      media.getVideoTracks()[0]?.addEventListener('ended', () => stop('The picture\'s source was switched off.'));
      devices();
    }
    state(`Connecting to ${stream} …`, { busy: true });
    const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    const rate = Number(at('rate').value) * 1000;
    for (const track of media.getTracks()) {
      const options = { direction: 'sendonly', streams: [media] };
      if (track.kind === 'video') options.sendEncodings = [{ maxBitrate: rate }];
      const transceiver = peer.addTransceiver(track, options);
      if (track.kind !== 'video') continue;
      const wanted = at('codec').value || 'video/H264';
      const all = RTCRtpSender.getCapabilities?.('video')?.codecs || [];
      const is = (codec) => codec.mimeType === wanted;
      // What helps after losses stays at the end, or it would be the codec.
      if (all.some(is)) transceiver.setCodecPreferences?.([...all.filter(is), ...all.filter((codec) => !is(codec))]);
    }
    let end;
    try {
      end = await negotiate(peer, 'whip');
      await connected(peer, 10);
    } catch (error) {
      if (end) end(); else peer.close();
      throw error;
    }
    if (mine !== attempt) { end(); return; }
    session = { peer, end };
    document.body.dataset.live = 'yes';
    state('');
    busy(false);
    peer.addEventListener('connectionstatechange', () => {
      if (['failed', 'closed', 'disconnected'].includes(peer.connectionState)) lost(mine, peer);
    });
  } catch (error) {
    if (mine !== attempt) return;
    const trouble = error instanceof Trouble ? error : new Trouble(error.message || String(error));
    if (trouble.retry) {
      state(`${trouble.message} Trying again …`, { busy: true });
      setTimeout(() => { if (mine === attempt && wants) start(); }, 2000);
    } else {
      stop(trouble.message);
    }
  }
}

/// It may come back by itself within seconds.
function lost(mine, peer) {
  if (mine !== attempt || !session) return;
  const again = () => {
    if (mine !== attempt || session?.peer !== peer || peer.connectionState === 'connected') return;
    hangUp();
    start();
  };
  state('The connection broke. Trying again …', { busy: true });
  setTimeout(() => (peer.connectionState === 'connected' ? state('') : again()), peer.connectionState === 'disconnected' ? 5000 : 500);
}

function hangUp() {
  session?.end();
  session = null;
  delete document.body.dataset.live;
}

function stop(why = '') {
  attempt++;
  wants = false;
  hangUp();
  media?.getTracks().forEach((track) => track.stop());
  media = null;
  video.srcObject = null;
  show({});
  state(why || 'Not live.', {});
  busy(false);
}

function busy(is) {
  at('go').textContent = wants ? (is ? 'Cancel' : 'Stop') : 'Go live';
  for (const id of ['stream', 'picture', 'sound', 'size', 'rate', 'codec']) at(id).disabled = wants;
}

let before = { bytes: 0, frames: 0, time: performance.now() };
let limited = 0; // seconds in a row: each session begins small
setInterval(async () => {
  if (!session) return;
  const { peer } = session;
  const stats = [...(await peer.getStats()).values()];
  if (session?.peer !== peer) return;
  const of = (kind) => stats.find((s) => s.type === 'outbound-rtp' && s.kind === kind);
  const [picture, sound] = [of('video'), of('audio')];
  const codec = (s) => s && codecName(stats.find((c) => c.id === s.codecId)?.mimeType);
  const heard = stats.find((s) => s.type === 'remote-inbound-rtp' && s.kind === (picture ? 'video' : 'audio'));
  const now = performance.now();
  const seconds = (now - before.time) / 1000;
  const bytes = (picture?.bytesSent || 0) + (sound?.bytesSent || 0);
  const frames = picture?.framesEncoded || 0;
  show({
    State: 'live',
    Picture: picture && `${codec(picture)}, ${picture.frameWidth || '?'} × ${picture.frameHeight || '?'}`,
    Sound: codec(sound),
    'Frame rate': picture && `${Math.max(0, Math.round((frames - before.frames) / seconds))} per second`,
    'Bit rate': bits(Math.max(0, 8 * (bytes - before.bytes) / seconds)),
    'There and back': heard?.roundTripTime !== undefined && `${Math.round(heard.roundTripTime * 1000)} ms`,
    Lost: heard?.fractionLost !== undefined && `${(heard.fractionLost * 100).toFixed(1)} %`,
  });
  const limits = { bandwidth: 'The network is too slow for more: the picture is made smaller.', cpu: 'This machine is too slow for more: the picture is made smaller.' };
  limited = limits[picture?.qualityLimitationReason] ? limited + seconds : 0;
  at('note').textContent = limited > 15 ? limits[picture.qualityLimitationReason] : '';
  before = { bytes, frames, time: now };
}, 1000);

function named() {
  at('name').textContent = stream;
  at('other').href = `/player/${stream}${rest()}`;
}
at('stream').value = stream;
named();
at('form').addEventListener('submit', (event) => {
  event.preventDefault();
  if (wants) { stop(); return; }
  stream = at('stream').value.trim().replace(/^\/+|\/+$/g, '') || 'live/demo';
  if (!stream.includes('/')) stream = `live/${stream}`;
  at('stream').value = stream;
  named();
  history.replaceState(null, '', `/publish/${stream}${rest()}`);
  start();
});
navigator.mediaDevices?.addEventListener?.('devicechange', devices);
addEventListener('pagehide', () => { if (session) hangUp(); });
codecs();
devices();
state(navigator.mediaDevices ? 'Not live.' : '', {});
if (!navigator.mediaDevices) capture().catch((trouble) => state(trouble.message));
