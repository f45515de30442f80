// node tools/image/stage.run.ts FOLDER: for deploy/Dockerfile, everything above Debian and Node, into a folder that is copied as a whole.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pinnedNode, upper } from './build.ts';
import { arranged } from './layer.ts';
import { architectureHere, CACHE, CHECKOUT, sourceOf } from './options.ts';

const [folder] = process.argv.slice(2);
if (folder === undefined) {
  process.stderr.write('usage: node tools/image/stage.run.ts FOLDER\n');
  process.exit(64);
}
const architecture = architectureHere();
// The base image's own Node goes into the image: it must be the one that the tests ran on.
const node = pinnedNode(CHECKOUT, architecture, process.execPath);
const parts = upper({
  checkout: CHECKOUT,
  cache: CACHE,
  source: sourceOf(CHECKOUT, process.env),
  architecture,
  debian: undefined, // its packages are the base image's, which scanners find there
  node,
});
for (const entry of arranged([...parts.viewer, ...parts.modules, ...parts.program])) {
  const path = join(folder, entry.path);
  if (entry.type === 'directory') mkdirSync(path, { recursive: true });
  else {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, entry.bytes!());
    chmodSync(path, entry.mode);
  }
}
