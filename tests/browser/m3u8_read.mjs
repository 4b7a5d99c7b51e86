// What npm's m3u8-parser reads in media playlists: one line each.   node m3u8_read.mjs CLIENTS_DIR FILE...

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [clients, ...files] = process.argv.slice(2);
const { Parser } = createRequire(join(clients, 'node_modules/'))('m3u8-parser');

for (const file of files) {
  const parser = new Parser();
  parser.on('warn', ({ message }) => console.log('warning:', file, message));
  parser.push(readFileSync(file, 'utf8'));
  parser.end();
  const { targetDuration, mediaSequence, segments, preloadSegment, endList } = parser.manifest;
  const ms = segments.reduce((sum, segment) => sum + Math.round(segment.duration * 1000), 0);
  const parts = [...segments, preloadSegment ?? {}].reduce((sum, segment) => sum + (segment.parts?.length ?? 0), 0);
  console.log(targetDuration, mediaSequence, segments.length, ms, parts, endList ?? false);
}
