// Publishes and plays by WebRTC in Chromium.
// node webrtc.mjs CLIENTS_DIR play URL [seconds=N] [frames=N] [sound=yes]
// node webrtc.mjs CLIENTS_DIR publish URL [seconds=N] [codec=VP8] [restart=yes]
// The last line is JSON of what there was.

import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [clients, what, url, ...rest] = process.argv.slice(2);
const options = Object.fromEntries(rest.map((word) => word.split('=')));
const seconds = Number(options.seconds ?? 4);
const require = createRequire(join(clients, 'node_modules/'));
const { chromium } = require('playwright-core');

const PATIENCE = 40_000; // ms

const server = createServer((request, response) => {
  response.setHeader('content-type', 'text/html').end('<!doctype html><title>webrtc</title><video autoplay></video>');
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const profile = mkdtempSync(join(tmpdir(), 'rillbox-chromium-'));
const flags = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
  + '--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required '
  + '--use-fake-ui-for-media-stream --use-fake-device-for-media-stream --allow-loopback-in-peer-connection';
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium', headless: true, args: flags.split(' '),
});

// In the page. Asks for a session as WHIP and WHEP have it.
const session = async ({ what, url, codec }) => {
  const pc = new RTCPeerConnection();
  window.pc = pc;
  if (what === 'play') {
    pc.addTransceiver('audio', { direction: 'recvonly' });
    pc.addTransceiver('video', { direction: 'recvonly' });
    const stream = new MediaStream();
    pc.ontrack = (event) => { stream.addTrack(event.track); document.querySelector('video').srcObject = stream; };
  } else {
    const media = await navigator.mediaDevices.getUserMedia({
      audio: true, video: { width: 640, height: 360, frameRate: 20 },
    });
    for (const track of media.getTracks()) {
      const transceiver = pc.addTransceiver(track, { direction: 'sendonly', streams: [media] });
      if (codec && track.kind === 'video') {
        const all = RTCRtpSender.getCapabilities('video').codecs;
        transceiver.setCodecPreferences(all.filter((one) => one.mimeType === `video/${codec}` || /rtx/.test(one.mimeType)));
      }
    }
  }
  await pc.setLocalDescription();
  const reply = await fetch(url, {
    method: 'POST', headers: { 'content-type': 'application/sdp' }, body: pc.localDescription.sdp,
  });
  const text = await reply.text();
  if (reply.status !== 201) throw new Error(`${reply.status}: ${text}`);
  window.session = { place: new URL(reply.headers.get('location'), url).href, etag: reply.headers.get('etag') };
  await pc.setRemoteDescription({ type: 'answer', sdp: text });
  await new Promise((done, fail) => {
    const look = () => {
      if (pc.connectionState === 'connected') done();
      if (pc.connectionState === 'failed') fail(new Error('not connected'));
    };
    pc.onconnectionstatechange = look;
    look();
    setTimeout(() => fail(new Error(`still ${pc.connectionState}`)), 30000);
  });
  return text;
};
// In the page. What there was to see and hear.
const figures = async () => {
  const all = { state: pc.connectionState };
  for (const stat of (await pc.getStats()).values()) {
    if (stat.type === 'inbound-rtp' || stat.type === 'outbound-rtp') {
      const codec = (await pc.getStats()).get(stat.codecId);
      all[stat.kind] = { ...stat, mime: codec?.mimeType };
    }
  }
  return all;
};
// In the page. ICE begins anew (RFC 9725 4.3.2).
const restart = async () => {
  const offer = await pc.createOffer({ iceRestart: true });
  await pc.setLocalDescription(offer);
  const find = (sdp, name) => sdp.match(new RegExp(`a=${name}:(.*)\\r\\n`))[1];
  const { sdp } = pc.localDescription;
  const body = `a=ice-ufrag:${find(sdp, 'ice-ufrag')}\r\na=ice-pwd:${find(sdp, 'ice-pwd')}\r\n`;
  const reply = await fetch(session.place, {
    method: 'PATCH', headers: { 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': '*' }, body,
  });
  const fragment = await reply.text();
  if (reply.status !== 200) throw new Error(`${reply.status}: ${fragment}`);
  let answer = pc.currentRemoteDescription.sdp;
  for (const name of ['ice-ufrag', 'ice-pwd']) {
    answer = answer.replaceAll(new RegExp(`a=${name}:.*\\r\\n`, 'g'), `a=${name}:${find(fragment, name)}\r\n`);
  }
  await pc.setRemoteDescription({ type: 'answer', sdp: answer });
  return reply.headers.get('etag') !== session.etag;
};
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

let told = {};
try {
  const tab = await browser.newPage();
  tab.on('pageerror', (error) => console.log('page:', error.message));
  // Not the server under test: pages of other sites may do this, too (CORS).
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  const answer = await tab.evaluate(session, { what, url, codec: options.codec });
  if (process.env.SHOW) console.log(answer);
  console.log('connected');
  const enough = Number(options.frames ?? 20);
  const deadline = Date.now() + PATIENCE;
  const count = (all) => (what === 'play' ? all.video?.framesDecoded : all.video?.framesEncoded) ?? 0;
  const sound = (all) => options.sound !== 'yes' || (all.audio?.totalAudioEnergy ?? 0) > 0;
  let all = {};
  for (;;) {
    all = await tab.evaluate(figures);
    if (count(all) >= enough && sound(all)) break;
    if (Date.now() > deadline) throw new Error(`too few frames: ${JSON.stringify(all)}`);
    await pause(100);
  }
  console.log('flows');
  const begin = all;
  if (options.restart === 'yes') {
    if (!await tab.evaluate(restart)) throw new Error('the ETag is still the same');
    console.log('restarted');
  }
  await pause(seconds * 1000);
  all = await tab.evaluate(figures);
  const { video = {}, audio = {} } = all;
  told = {
    state: all.state, frames: count(all) - count(begin), codec: video.mime, sound: audio.mime,
    lost: video.packetsLost, freezes: (video.freezeCount ?? 0) - (begin.video?.freezeCount ?? 0),
    energy: audio.totalAudioEnergy, width: video.frameWidth, nacks: video.nackCount, plis: video.pliCount,
    delay: video.jitterBufferDelay / video.jitterBufferEmittedCount,
  };
  const place = await tab.evaluate(async () => (await fetch(session.place, { method: 'DELETE' })).status);
  told.deleted = place;
  await tab.evaluate(() => pc.close());
} catch (error) {
  console.log(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
  server.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(told));
