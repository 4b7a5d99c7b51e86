// Plays a file in Chromium, seeks forward and back in it, and demands that pictures come each time.
// node seek.mjs CLIENTS_DIR URL
//
// The last line is JSON: duration, where it was sought to and which time was shown; the exit code is not 0 when the
// browser complained or stood still.

import { createServer } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [clients, url] = process.argv.slice(2);
const { chromium } = createRequire(join(clients, 'node_modules/'))('playwright-core');
const PATIENCE = 60_000; // ms

const server = createServer((_, response) => {
  response.setHeader('content-type', 'text/html').end('<!doctype html><title>seek</title><video muted></video>');
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
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  await tab.evaluate((url) => {
    const video = document.querySelector('video');
    window.failed = null;
    video.addEventListener('error', () => { window.failed = video.error.message; });
    video.src = url;
    video.play();
  }, url);
  /** Waits until pictures are shown from `at` on. */
  const shows = async (at) => {
    const told = await tab.waitForFunction((at) => {
      const video = document.querySelector('video');
      if (window.failed) return { failed: window.failed };
      const frames = video.getVideoPlaybackQuality().totalVideoFrames;
      window.before ??= frames;
      const shown = !video.seeking && video.currentTime >= at + 0.2 && frames >= window.before + 3;
      if (shown) { window.before = null; }
      return shown && { time: video.currentTime, duration: video.duration, frames };
    }, at, { timeout: PATIENCE, polling: 50 });
    const result = await told.jsonValue();
    if (result.failed) throw new Error(result.failed);
    return result;
  };
  const seen = [await shows(0)];
  const { duration } = seen[0];
  for (const part of [0.7, 0.2]) {
    const to = duration * part;
    await tab.evaluate((to) => { document.querySelector('video').currentTime = to; }, to);
    seen.push({ to, ...await shows(to) });
  }
  console.log(JSON.stringify({ duration, seen }));
} catch (error) {
  console.log(String(error));
  process.exitCode = 1;
} finally {
  await browser.close();
  server.close();
  rmSync(profile, { recursive: true, force: true });
}
