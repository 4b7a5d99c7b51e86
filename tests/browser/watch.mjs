// Watches a live stream in a browser for some seconds, and tells what the viewer saw.
//
//   node watch.mjs CLIENTS_DIR PLAYER URL [NAME=VALUE...]
//
// PLAYER: hls.js, dash.js, shaka, mpegts.js-flv, mpegts.js-ts, native (the browser's own).
//
//   browser=firefox     instead of chromium; the one that decodes H.265
//   seconds=20          how long to watch from the first picture on
//   config={…}          JSON for the player's configuration (hls.js: new Hls(…), dash.js: updateSettings(…),
//                       shaka: configure(…))
//   latency=2.5         the most seconds behind the publisher, in the middle of what is measured once a second in
//                       the second half of the time
//   sound=only          there is no picture: what counts is that time goes on
//   ends=1              the stream may end while it is watched
//
// The last line is JSON: frames, dropped, played (seconds of media), stalls, errors, latency (seconds, the middle and
// the most), …; the exit code is not 0 when the viewer would have complained: an error event, a stall, time that stood
// still, or too much latency.

import { createServer } from 'node:http';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [clients, player, url, ...rest] = process.argv.slice(2);
const options = Object.fromEntries(rest.map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]));
const seconds = Number(options.seconds ?? 20);
const config = JSON.parse(options.config ?? '{}');
const require = createRequire(join(clients, 'node_modules/'));

const STARTS_WITHIN = 45_000; // ms

const SCRIPTS = {
  'hls.js': 'hls.js/dist/hls.js',
  'dash.js': 'dashjs/dist/modern/umd/dash.all.debug.js',
  shaka: 'shaka-player/dist/shaka-player.compiled.js',
  'mpegts.js-flv': 'mpegts.js/dist/mpegts.js',
  'mpegts.js-ts': 'mpegts.js/dist/mpegts.js',
  native: null,
};
if (!(player in SCRIPTS)) throw new Error(`no such player: ${player}`);
const script = SCRIPTS[player] ? readFileSync(join(clients, 'node_modules', SCRIPTS[player])) : '';
const page = '<!doctype html><meta charset="utf-8"><title>watch</title><video muted playsinline></video>'
  + '<script src="/player.js"></script>';

/** Runs in the page: starts the player, and keeps `window.seen` up to date. */
async function watch({ player, url, config }) {
  const video = document.querySelector('video');
  const seen = { errors: [], stalls: [], latency: () => null, started: 0, info: {} };
  window.seen = seen;
  const error = (...what) => {
    const text = what.map((part) => (typeof part === 'string' ? part : JSON.stringify(part, (key, value) => {
      // What players hang on their errors is large, and refers to itself.
      if (['frag', 'part', 'parent', 'networkDetails', 'context', 'stats', 'loader', 'response', 'chunkMeta', 'buffer'].includes(key)) return undefined;
      return value instanceof Error ? `${value.name}: ${value.message}` : value;
    }))).join(' ');
    seen.errors.push(`${(performance.now() / 1000).toFixed(2)} s: ${text}`);
  };
  video.addEventListener('error', () => error('video', video.error?.code ?? 0, video.error?.message ?? ''));
  video.addEventListener('playing', () => { seen.started ||= performance.now(); });
  video.addEventListener('waiting', () => {
    if (seen.started && !video.ended) seen.stalls.push(Number(video.currentTime.toFixed(2)));
  });
  const since = (date) => (date ? (Date.now() - date.getTime()) / 1000 : null);
  if (player === 'hls.js') {
    const hls = new Hls(config);
    // INTERNAL_ABORTED: a request that it gave up of its own accord.
    hls.on(Hls.Events.ERROR, (_, what) => what.details !== Hls.ErrorDetails.INTERNAL_ABORTED && error(what.type, what.details, what.fatal ? 'FATAL' : '', what.reason ?? '', what.error?.message ?? '', what.response?.code ?? '', what.url ?? ''));
    hls.on(Hls.Events.MANIFEST_PARSED, (_, what) => {
      seen.info.levels = what.levels.map((level) => ({ codecs: level.attrs.CODECS, size: level.attrs.RESOLUTION, rate: level.attrs['FRAME-RATE'], bandwidth: level.bitrate }));
    });
    hls.on(Hls.Events.LEVEL_UPDATED, (_, { details }) => {
      seen.info.parts = details.partList?.length ?? 0;
      seen.info.delta = (seen.info.delta ?? 0) + (details.skippedSegments > 0 ? 1 : 0);
      seen.info.target = hls.targetLatency;
    });
    hls.on(Hls.Events.AUDIO_TRACKS_UPDATED, (_, what) => {
      seen.info.audio = what.audioTracks.map((track) => ({ name: track.name, lang: track.lang }));
    });
    hls.loadSource(url);
    hls.attachMedia(video);
    seen.latency = () => since(hls.playingDate);
    window.player = hls;
  } else if (player === 'dash.js') {
    const dash = dashjs.MediaPlayer().create();
    dash.updateSettings(config);
    dash.on(dashjs.MediaPlayer.events.ERROR, (what) => error('dash.js', what.error));
    dash.on(dashjs.MediaPlayer.events.PLAYBACK_ERROR, (what) => error('dash.js', what.error));
    dash.on(dashjs.MediaPlayer.events.STREAM_INITIALIZED, () => video.play().catch((what) => error('play', what.message)));
    dash.initialize(video, url, true);
    seen.latency = () => { const late = dash.getCurrentLiveLatency(); return Number.isFinite(late) ? late : null; };
    window.player = dash;
  } else if (player === 'shaka') {
    shaka.polyfill.installAll();
    const shaka_ = new shaka.Player();
    await shaka_.attach(video);
    shaka_.configure(config);
    shaka_.addEventListener('error', (event) => error('shaka', event.detail.code, event.detail.data));
    shaka_.load(url).catch((what) => error('shaka load', what.code ?? '', what.data ?? '', what.message ?? ''));
    seen.latency = () => { try { return since(shaka_.getPlayheadTimeAsDate()); } catch { return null; } };
    window.player = shaka_;
  } else if (player === 'native') {
    video.src = url;
  } else {
    const mpegts_ = mpegts.createPlayer({ type: player === 'mpegts.js-ts' ? 'mpegts' : 'flv', url, isLive: true }, config);
    mpegts_.on(mpegts.Events.ERROR, (...what) => error(...what));
    mpegts_.attachMediaElement(video);
    mpegts_.load();
    window.player = mpegts_;
  }
  // A player that is told so before it has a source says that it was interrupted.
  video.autoplay = true;
  // dash.js takes one that was started before for one that is paused: it asks for no news then.
  if (player !== 'shaka' && player !== 'dash.js') video.play().catch((what) => error('play', what.message));
}

/** Runs in the page: how things are now. */
function look() {
  const video = document.querySelector('video');
  const quality = video.getVideoPlaybackQuality();
  const { errors, stalls, started, info } = window.seen;
  const buffered = video.buffered.length ? video.buffered.end(video.buffered.length - 1) - video.currentTime : 0;
  return {
    now: performance.now(), started, time: video.currentTime, frames: quality.totalVideoFrames, dropped: quality.droppedVideoFrames,
    size: `${video.videoWidth}x${video.videoHeight}`, buffered, ended: video.ended, rate: video.playbackRate,
    latency: window.seen.latency(), errors, stalls, info,
  };
}

async function openBrowser() {
  if (options.browser === 'firefox') {
    const puppeteer = require('puppeteer-core');
    const browser = await puppeteer.launch({
      browser: 'firefox', executablePath: '/usr/bin/firefox-esr', headless: true, timeout: 90_000,
      extraPrefsFirefox: { 'media.autoplay.default': 0, 'media.hevc.enabled': true },
    });
    return { tab: await browser.newPage(), close: () => browser.close() };
  }
  const { chromium } = require('playwright-core');
  const profile = mkdtempSync(join(tmpdir(), 'rillbox-chromium-'));
  const flags = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
    + '--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required';
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: '/usr/bin/chromium', headless: true, args: flags.split(' '), timeout: 90_000,
  });
  return {
    tab: await browser.newPage(),
    close: async () => {
      await browser.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

// Not the server under test: pages of other sites may play, too (CORS).
const server = createServer((request, response) => {
  const [kind, body] = request.url === '/player.js' ? ['text/javascript', script] : ['text/html', page];
  response.setHeader('content-type', kind).end(body);
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });
const middle = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

const { tab, close } = await openBrowser();
const complaints = [];
try {
  tab.on('console', (message) => console.log('console:', message.text()));
  tab.on('pageerror', (error) => complaints.push(`page: ${error.message}`));
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  await tab.evaluate(watch, { player, url, config });

  const opened = Date.now();
  let at = await tab.evaluate(look);
  const playing = () => at.started && at.time > 0 && (options.sound === 'only' || at.frames > 0);
  while (!playing() && Date.now() - opened < STARTS_WITHIN) {
    await sleep(100);
    at = await tab.evaluate(look);
  }
  const first = at;
  const latencies = [];
  if (!playing()) {
    complaints.push('nothing was played');
  } else {
    while (at.now - first.now < seconds * 1000 && !at.ended) {
      await sleep(1000);
      at = await tab.evaluate(look);
      if (at.latency !== null && at.now - first.now > seconds * 500) latencies.push(at.latency);
      if (process.env.RILLBOX_WATCH_VERBOSE) console.log(JSON.stringify({ ...at, errors: at.errors.length, info: undefined }));
    }
  }
  const watched = (at.now - first.now) / 1000;
  const played = at.time - first.time;
  const latency = latencies.length ? { middle: middle(latencies), most: Math.max(...latencies) } : null;
  complaints.push(...at.errors);
  if (at.stalls.length) complaints.push(`stalled at ${at.stalls.join(', ')} s`);
  if (at.ended && !options.ends) complaints.push('the stream ended');
  if (playing() && !at.ended && played < watched * 0.9 - 0.5) {
    complaints.push(`only ${played.toFixed(1)} s were played in ${watched.toFixed(1)} s`);
  }
  if (options.latency && !(latency?.middle <= Number(options.latency))) {
    complaints.push(`latency ${latency?.middle} s is above ${options.latency} s`);
  }
  console.log(JSON.stringify({
    player, browser: options.browser ?? 'chromium', url, watched, played, started_after: (first.now - 0) / 1000,
    frames: at.frames, dropped: at.dropped, size: at.size, stalls: at.stalls.length, errors: at.errors.length, latency,
    buffered: at.buffered, ended: at.ended, ...at.info, complaints,
  }));
  if (complaints.length) process.exitCode = 1;
} finally {
  await close();
  server.close();
}
