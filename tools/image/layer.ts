// A layer: entries in, the same tar out whatever machine, user, clock or umask made it; then gzip.
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';

export interface Entry {
  /** From the root of the image, without a leading slash. */
  path: string;
  type: 'file' | 'directory' | 'symlink';
  mode: number;
  /** Who owns it, user and group alike; root where nothing is said, so that the process cannot change its own program. */
  owner?: number;
  target?: string;
  bytes?: () => Buffer;
}

export const file = (path: string, bytes: () => Buffer, mode = 0o644): Entry => ({ path, type: 'file', mode, bytes });
export const text = (path: string, content: string, mode = 0o644): Entry =>
  file(path, () => Buffer.from(content), mode);
export const folder = (path: string, mode = 0o755, owner = 0): Entry => ({ path, type: 'directory', mode, owner });
export const link = (path: string, target: string): Entry => ({ path, type: 'symlink', mode: 0o777, target });

export interface Layer {
  /** What it holds, for the image's history. */
  name: string;
  /** Digest of the tar: what is inside, which is the same wherever it is built. */
  diffId: string;
  /** Digest of the gzip: what a registry calls it. */
  digest: string;
  size: number;
  path: string;
}

/** Sorted, each path once, every folder above a file present: so a layer is a function of its content alone. */
export function arranged(entries: readonly Entry[]): Entry[] {
  const byPath = new Map<string, Entry>();
  for (const entry of entries) {
    if (entry.path === '' || entry.path.split('/').some((part) => part === '' || part === '.' || part === '..'))
      throw new Error(`not a path inside the image: ${entry.path}`);
    const known = byPath.get(entry.path);
    if (known !== undefined && (known.type !== 'directory' || entry.type !== 'directory'))
      throw new Error(`${entry.path} comes twice`);
    byPath.set(entry.path, entry);
  }
  for (const { path } of entries) {
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      const above = path.slice(0, at);
      if (!byPath.has(above)) byPath.set(above, folder(above));
    }
  }
  return [...byPath.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Copies bytes through and remembers their digest and number. */
export function digesting() {
  const sha256 = createHash('sha256');
  let size = 0;
  return {
    through: new Transform({
      transform(chunk: Buffer, _encoding, done) {
        sha256.update(chunk);
        size += chunk.length;
        done(null, chunk);
      },
    }),
    result: () => ({ digest: `sha256:${sha256.digest('hex')}`, size }),
  };
}

/** Level 9: the image is made once and pulled by every node of every hospital. */
const GZIP_LEVEL = 9;

/** `folder` keeps layers by what is in them, so that a build after a change of one line compresses one layer. */
export async function writeLayer(name: string, entries: readonly Entry[], store: string): Promise<Layer> {
  mkdirSync(store, { recursive: true });
  const work = mkdtempSync(join(store, '.layer.'));
  try {
    const tar = join(work, 'layer.tar');
    const stream = pack();
    const inside = digesting();
    const written = pipeline(stream, inside.through, createWriteStream(tar));
    for (const entry of arranged(entries)) {
      const header = {
        name: entry.type === 'directory' ? `${entry.path}/` : entry.path,
        type: entry.type,
        mode: entry.mode,
        uid: entry.owner ?? 0,
        gid: entry.owner ?? 0,
        // No times: a layer whose content did not change is the layer that is there already.
        mtime: new Date(0),
      };
      if (entry.type === 'symlink') stream.entry({ ...header, linkname: entry.target! });
      else if (entry.type === 'directory') stream.entry(header);
      else {
        const bytes = entry.bytes!();
        stream.entry({ ...header, size: bytes.length }, bytes);
      }
    }
    stream.finalize();
    await written;
    const { digest: diffId } = inside.result();
    const path = join(store, `${diffId.slice('sha256:'.length)}.node${process.versions.zlib}.tar.gz`);
    if (!existsSync(path)) {
      await pipeline(
        createReadStream(tar),
        createGzip({ level: GZIP_LEVEL }),
        createWriteStream(join(work, 'layer.gz')),
      );
      renameSync(join(work, 'layer.gz'), path); // whole, or not there
    }
    const outside = digesting();
    await pipeline(createReadStream(path), outside.through.resume());
    return { name, diffId, path, ...outside.result() };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
