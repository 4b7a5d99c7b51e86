'use strict';
const at = (id) => document.getElementById(id);

/// The stream that the page is about: /player/live/demo, or ?stream=live/demo, or SRS's ?app=live&stream=demo.
const query = new URLSearchParams(location.search);
const place = location.pathname.split('/').slice(2).map(decodeURIComponent).filter(Boolean).join('/');
let stream = place || query.get('stream') || 'live/demo';
if (!stream.includes('/')) stream = `${query.get('app') || 'live'}/${stream}`;
for (const name of ['app', 'stream', 'via']) query.delete(name);
// What is left goes along with each request: vhost, signatures, tokens.
const rest = () => (query.size ? `?${query}` : '');
const urlOf = (what) => `/${stream.split('/').map(encodeURIComponent).join('/')}${what}${rest()}`;

/// What went wrong, for people. `retry`: it may be right in a while.
class Trouble extends Error {
  constructor(text, { retry = false, next = false } = {}) {
    super(text);
    Object.assign(this, { retry, next });
  }
}

const says = async (reply) => (await reply.text().catch(() => '')).trim().replace(/^\d{3}: /, '').slice(0, 300);

/// Asks for a session by WHIP or WHEP; `peer` has its tracks already. Gives what ends it.
async function negotiate(peer, what) {
  await peer.setLocalDescription(await peer.createOffer());
  const token = query.get('token');
  const reply = await fetch(urlOf(`/${what}`), {
    method: 'POST',
    headers: { 'content-type': 'application/sdp', ...(token && { authorization: `Bearer ${token}` }) },
    body: peer.localDescription.sdp,
  }).catch(() => { throw new Trouble('The server does not answer.', { retry: true }); });
  if (reply.status === 404) throw new Trouble(await says(reply) || 'There is no such stream now.', { retry: true });
  if (reply.status === 405) throw new Trouble('This server has no WebRTC.', { next: true });
  if (reply.status !== 201) {
    const text = await says(reply) || `The server answers ${reply.status}.`;
    throw new Trouble(text, { retry: reply.status === 503, next: ![401, 403].includes(reply.status) });
  }
  const session = reply.headers.get('location');
  const end = () => {
    peer.close();
    if (session) fetch(new URL(session, reply.url), { method: 'DELETE', keepalive: true }).catch(() => {});
  };
  try {
    await peer.setRemoteDescription({ type: 'answer', sdp: await reply.text() });
  } catch (error) {
    end();
    throw new Trouble(`This browser does not understand the server's answer: ${error.message}`, { next: true });
  }
  return end;
}

/// Waits until `peer` is connected.
function connected(peer, seconds) {
  return new Promise((done, fail) => {
    const late = () => fail(new Trouble('No way was found between this browser and the server: its UDP port may be closed.',
      { next: true }));
    const timer = setTimeout(late, seconds * 1000);
    const look = () => {
      if (peer.connectionState === 'connected') { clearTimeout(timer); done(); }
      if (['failed', 'closed'].includes(peer.connectionState)) { clearTimeout(timer); late(); }
    };
    peer.addEventListener('connectionstatechange', look);
    look();
  });
}

/// What stands below the picture.
function show(facts) {
  at('facts').replaceChildren(...Object.entries(facts).filter(([, value]) => value).map(([name, value]) => {
    const row = document.createElement('div');
    for (const [tag, text] of [['dt', name], ['dd', value]]) {
      row.append(Object.assign(document.createElement(tag), { textContent: text }));
    }
    return row;
  }));
}

function state(text, { busy = false, button = '' } = {}) {
  at('state').hidden = !text;
  at('wheel').hidden = !busy;
  at('words').textContent = text || '';
  at('press').hidden = !button;
  at('press').textContent = button;
}

const bits = (n) => (n >= 1e6 ? `${(n / 1e6).toFixed(1)} Mbit/s` : `${Math.round(n / 1e3)} kbit/s`);
/// A codec as people call it; `name` is a media type or an RFC 6381 string.
function codecName(name = '') {
  const short = name.split('/').pop().split('.')[0];
  const known = { av01: 'AV1', avc1: 'H.264', H264: 'H.264', hvc1: 'H.265', H265: 'H.265', mp4a: 'AAC', opus: 'Opus', PCMA: 'G.711 A-law', PCMU: 'G.711 µ-law' };
  return known[short] || short;
}
