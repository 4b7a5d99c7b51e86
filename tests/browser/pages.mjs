// The pages /player and /publish in Chromium, with its made-up camera and microphone.
// node pages.mjs CLIENTS_DIR BASE_URL
//
// live/demo is somebody else's (H.264 and AAC); live/cam is published here. Each line is JSON of what one player has: how it
// plays, pictures, the loudest sample, what the page says. The exit code is not 0 when a page complains or nothing comes.

import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [clients, base] = process.argv.slice(2);
const { chromium } = createRequire(join(clients, 'node_modules/'))('playwright-core');
const PATIENCE = 40_000; // ms

const profile = mkdtempSync(join(tmpdir(), 'rillbox-chromium-'));
const flags = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
  + '--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required '
  + '--use-fake-ui-for-media-stream --use-fake-device-for-media-stream --allow-loopback-in-peer-connection';
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium', headless: true, args: flags.split(' '),
});

const open = async (path) => {
  const page = await browser.newPage();
  page.on('pageerror', (error) => { console.log(path, error.message); process.exitCode = 1; });
  await page.goto(base + path);
  return page;
};

const plays = async (path) => {
  const page = await open(path);
  // A sound of some loudness, and pictures; a made-up microphone beeps once a second.
  await page.waitForFunction(() => document.body.dataset.playing && video.getVideoPlaybackQuality().totalVideoFrames > 40,
    undefined, { timeout: PATIENCE });
  const got = await page.evaluate(async () => {
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(video.srcObject || video.captureStream()).connect(analyser);
    await context.resume();
    const samples = new Float32Array(analyser.fftSize);
    let loudest = 0;
    for (let n = 0; n < 200 && loudest < 0.01; n++) {
      await new Promise((done) => setTimeout(done, 30));
      analyser.getFloatTimeDomainData(samples);
      loudest = Math.max(loudest, ...samples.map(Math.abs));
    }
    return { by: document.body.dataset.playing, frames: video.getVideoPlaybackQuality().totalVideoFrames, loudest,
      facts: document.getElementById('facts').innerText.replace(/\s+/g, ' '), wide: document.documentElement.scrollWidth > innerWidth };
  });
  console.log(JSON.stringify(got));
  await page.close();
};

try {
  await plays('/player/live/demo');
  await plays('/player/live/demo?via=flv');
  const publish = await open('/publish/live/cam');
  await publish.click('#go');
  await publish.waitForFunction(() => document.body.dataset.live, undefined, { timeout: PATIENCE });
  await plays('/player/live/cam');
  await plays('/player?stream=live/cam&via=flv');
  await publish.click('#go');
  await publish.waitForFunction(() => !document.body.dataset.live);
  await publish.close();
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
