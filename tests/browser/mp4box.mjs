// Reads an MP4 file by mp4box.js, and tells of its tracks and samples.
// node mp4box.mjs CLIENTS_DIR FILE
//
// The last line is JSON; the exit code is not 0 when the reader complains, or something of the file was not understood.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [clients, file] = process.argv.slice(2);
const { createFile, Log } = createRequire(join(clients, 'node_modules/'))('mp4box');
const complaints = [];
Log.warn = (module, text) => complaints.push(`warning: ${module}: ${text}`);
// Its parser of FLAC's box takes the last block for one of many, whoever wrote it.
const ITS_OWN = /^Parsing of box 'dfLa' read \d+ more bytes/;
Log.error = (module, text) => { if (!ITS_OWN.test(text)) complaints.push(`error: ${module}: ${text}`); };

const mp4 = createFile();
let info = null;
mp4.onReady = (ready) => { info = ready; };
mp4.onError = (module, text) => complaints.push(`error: ${module}: ${text}`);
const bytes = readFileSync(file);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
buffer.fileStart = 0;
mp4.appendBuffer(buffer);
mp4.flush();

const strange = [];
const walk = (boxes, path) => {
  for (const box of boxes ?? []) {
    if (box.unparsed || box.has_unparsed_data || box.constructor.name === 'UnknownBox') strange.push(`${path}/${box.type}`);
    walk(box.boxes, `${path}/${box.type}`);
    walk(box.entries?.filter?.((entry) => entry?.type), `${path}/${box.type}`);
  }
};
walk(mp4.boxes, '');
if (strange.length) complaints.push(`not understood: ${[...new Set(strange)].join(' ')}`);
if (!info) complaints.push('no moov');
const tracks = (info?.tracks ?? []).map((track) => {
  const samples = mp4.getTrackSamplesInfo(track.id);
  return { codec: track.codec, timescale: track.timescale, language: track.language, samples: samples.length,
    keys: samples.filter((sample) => sample.is_sync).length, bytes: samples.reduce((sum, sample) => sum + sample.size, 0) };
});
console.log(JSON.stringify({ brands: info?.brands, fragmented: info?.isFragmented, tracks, complaints }));
if (complaints.length) process.exitCode = 1;
