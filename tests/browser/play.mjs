// Plays a live stream in Chromium by mpegts.js until enough frames are decoded.
// node play.mjs CLIENTS_DIR URL flv|mpegts

import { createServer } from 'node:http';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [clients, url, type] = process.argv.slice(2);
const require = createRequire(join(clients, 'node_modules/'));
const { chromium } = require('playwright-core');

const ENOUGH = 60; // frames
const PATIENCE = 60_000; // ms

const script = readFileSync(join(clients, 'node_modules/mpegts.js/dist/mpegts.js'));
const page = `<!doctype html><title>play</title><video muted></video><script src="/mpegts.js"></script>`;
const server = createServer((request, response) => {
  const [kind, body] = request.url === '/mpegts.js' ? ['text/javascript', script] : ['text/html', page];
  response.setHeader('content-type', kind).end(body);
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));

const profile = mkdtempSync(join(tmpdir(), 'rillbox-chromium-'));
const flags = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
  + '--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required';
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium', headless: true, args: flags.split(' '),
});
try {
  const tab = await browser.newPage();
  tab.on('console', (message) => console.log('console:', message.text()));
  tab.on('pageerror', (error) => console.log('page:', error.message));
  // Not the server under test: pages of other sites may play, too (CORS).
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  await tab.evaluate(({ url, type }) => {
    const player = mpegts.createPlayer({ type, url, isLive: true });
    window.failed = null;
    player.on(mpegts.Events.ERROR, (...what) => { window.failed = JSON.stringify(what); });
    player.attachMediaElement(document.querySelector('video'));
    player.load();
    player.play();
  }, { url, type });
  const result = await tab.waitForFunction((enough) => {
    const video = document.querySelector('video');
    const frames = video.getVideoPlaybackQuality().totalVideoFrames;
    if (window.failed) return { failed: window.failed, frames };
    return frames >= enough && video.currentTime > 1 && { frames, time: video.currentTime };
  }, ENOUGH, { timeout: PATIENCE, polling: 100 });
  const told = await result.jsonValue();
  console.log(url, JSON.stringify(told));
  if (told.failed) process.exitCode = 1;
} finally {
  await browser.close();
  server.close();
  rmSync(profile, { recursive: true, force: true });
}
