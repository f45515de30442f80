// What a command is to read: files, folders, and archives whose entries are streams. Nothing is extracted to disk, names are only labels.
import { createReadStream } from 'node:fs';
import { open, opendir, stat } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import yauzl, { type ZipFile } from 'yauzl';
import { usage } from './command.ts';

/** Entries up to this are read whole, so that the next one of a tar can be read meanwhile. */
const GATHERED_BYTES_MAX = 4 * 1024 * 1024;
/** The largest honest instance is a long multi-frame of some GB; an archive that claims more is a bomb. */
export const ENTRY_BYTES_MAX = 16 * 1024 ** 3;
/** A folder of links to its own parents has no end. */
const DEPTH_MAX = 64;
const BLOCK = 512; // of a tar; two of zeros are its end mark

export interface Item {
  /** For people: a path, or archive and name. */
  label: string;
  /** Tells it apart within its source for the journal: name, size, time. */
  key: string;
  size: number;
  /** Several times where `again` is true (files, zip entries, gathered ones). */
  open(): Promise<Readable>;
  again: boolean;
  /** To be called when done with it: an entry that is a stream within a stream holds up those behind it until then. */
  release?(): void;
  /** Too large to be taken, encrypted: why it is left out. */
  leftOut?: string;
  path?: string;
}

export type SourceKind = 'file' | 'folder' | 'tar' | 'tar.gz' | 'zip';

export async function kindOf(path: string): Promise<SourceKind> {
  const info = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    throw usage(`${path} cannot be read (${cause.code})`);
  });
  if (info.isDirectory()) return 'folder';
  const head = await firstBytes(path, 512);
  if (head.readUInt32BE(0) === 0x504b0304 || head.readUInt32BE(0) === 0x504b0506) return 'zip';
  if (head.readUInt16BE(0) === 0x1f8b) return 'tar.gz';
  if (head.toString('latin1', 257, 262) === 'ustar') return 'tar';
  return 'file';
}

async function firstBytes(path: string, length: number): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(length);
    await file.read(buffer, 0, length, 0);
    return buffer;
  } finally {
    await file.close();
  }
}

/** Everything below the paths, in a stable order for folders, so that a repeated run meets the same items. */
export async function* items(paths: readonly string[], archives: boolean): AsyncGenerator<Item> {
  for (const path of paths) {
    const kind = await kindOf(path);
    if (kind === 'folder') yield* folder(path);
    else if (kind === 'file' || !archives) yield await file(path, path);
    else
      try {
        yield* kind === 'zip' ? zip(path) : tar(path, kind === 'tar.gz');
      } catch (error) {
        if (!(error instanceof BrokenArchive)) throw error;
        yield leftOut(path, error.message); // what could be read was taken, and the other archives are not at fault
      }
  }
}

const leftOut = (path: string, why: string): Item => ({
  label: path,
  key: path,
  size: 0,
  open: () => Promise.reject(new Error(why)),
  again: true,
  leftOut: why,
});

async function file(path: string, label: string): Promise<Item> {
  const info = await stat(path);
  return {
    label,
    key: `${resolve(path)}\0${info.size}\0${info.mtimeMs}`,
    size: info.size,
    open: async () => createReadStream(path, { highWaterMark: 256 * 1024 }),
    again: true,
    path,
  };
}

async function* folder(root: string): AsyncGenerator<Item> {
  const pending: { path: string; depth: number }[] = [{ path: resolve(root), depth: 0 }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const names: { name: string; folder: boolean }[] = [];
    try {
      for await (const entry of await opendir(next.path, { bufferSize: 256 })) {
        // Links are followed to files only: a linked folder may be one that holds us.
        const file = entry.isFile() || (entry.isSymbolicLink() && (await linkedFile(join(next.path, entry.name))));
        if (file || entry.isDirectory()) names.push({ name: entry.name, folder: entry.isDirectory() });
      }
    } catch (error) {
      yield gone(next.path, error as NodeJS.ErrnoException); // one forbidden folder is no reason to leave all others out
    }
    names.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { name, folder } of names) {
      const path = join(next.path, name);
      if (!folder) {
        const label = relative(resolve(root), path);
        const item = await file(path, label).catch((error: NodeJS.ErrnoException) => gone(label, error));
        yield { ...item, label: join(root, label) };
      }
    }
    const folders = names.filter((entry) => entry.folder);
    if (next.depth < DEPTH_MAX)
      for (const { name } of folders.reverse()) pending.push({ path: join(next.path, name), depth: next.depth + 1 });
  }
}

/** Deleted or forbidden since the folder was listed: an item that says so, not the end of the run. */
const gone = (label: string, error: NodeJS.ErrnoException): Item => ({
  label,
  key: label,
  size: 0,
  open: () => Promise.reject(error),
  again: true,
  leftOut: `cannot be read (${error.code})`,
});

const linkedFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (info) => info.isFile(),
    () => false, // a link to nowhere is no file
  );

class BrokenArchive extends Error {
  constructor(what: string, cause: unknown) {
    super(`is no whole ${what}: what could be read before the damage was taken`, { cause });
  }
}

async function* zip(path: string): AsyncGenerator<Item> {
  const { mtimeMs } = await stat(path);
  let archive: ZipFile;
  try {
    // Names stay bytes: they are never used as paths, so there is nothing to validate in them.
    archive = await yauzl.openPromise(path, { autoClose: false, decodeStrings: false, validateEntrySizes: true });
  } catch (cause) {
    throw new BrokenArchive('zip', cause);
  }
  let n = 0;
  let opened = 0;
  let over = false;
  const close = () => {
    if (over && opened === 0) archive.close();
  };
  try {
    for await (const entry of archive.eachEntry()) {
      const name = entry.fileName.toString('utf8');
      if (name.endsWith('/')) continue;
      n++;
      const size = entry.uncompressedSize;
      yield {
        label: `${path}:${name}`,
        key: `${resolve(path)}\0${n}\0${name}\0${size}\0${mtimeMs}`,
        size,
        again: true,
        open: async () => {
          opened++;
          const done = () => {
            opened--;
            close();
          };
          const stream = await archive.openReadStreamPromise(entry).catch((cause: unknown) => {
            done();
            throw cause;
          });
          stream.once('close', done);
          return stream;
        },
        ...(entry.isEncrypted() ? { leftOut: 'is encrypted' } : {}),
        ...(size > ENTRY_BYTES_MAX ? { leftOut: 'is larger than 16 GiB' } : {}),
      };
    }
  } catch (cause) {
    throw new BrokenArchive('zip', cause);
  } finally {
    over = true;
    close();
  }
}

async function* tar(path: string, gzip: boolean): AsyncGenerator<Item> {
  const { mtimeMs } = await stat(path);
  const source = createReadStream(path, { highWaterMark: 1024 * 1024 });
  const plain = gzip ? source.pipe(createGunzip()) : source;
  const archive = extract();
  const fail = (error: Error) => archive.destroy(error);
  source.on('error', fail);
  plain.on('error', fail);
  let tail: Buffer = Buffer.alloc(0);
  plain.on(
    'data',
    (chunk: Buffer) => (tail = (chunk.length < BLOCK ? Buffer.concat([tail, chunk]) : chunk).subarray(-BLOCK)),
  );
  plain.pipe(archive as unknown as NodeJS.WritableStream);
  let n = 0;
  try {
    for await (const entry of archive) {
      const { name, size, type } = entry.header;
      if (type !== 'file' && type !== 'contiguous-file') {
        entry.resume();
        continue;
      }
      n++;
      const label = `${path}:${name}`;
      const base = { label, key: `${resolve(path)}\0${n}\0${name}\0${size}\0${mtimeMs}`, size };
      if (size <= GATHERED_BYTES_MAX) {
        const chunks: Buffer[] = [];
        for await (const chunk of entry as AsyncIterable<Buffer>) chunks.push(chunk);
        const whole = Buffer.concat(chunks);
        yield { ...base, again: true, open: async () => Readable.from([whole], { objectMode: false }) };
        continue;
      }
      // The next entry comes after this one: when whoever has it lets it go, read to its end or not.
      let release = () => {};
      const released = new Promise<void>((resolve) => (release = resolve));
      yield {
        ...base,
        again: false,
        open: async () => Readable.from(passing(entry as AsyncIterable<Buffer>), { objectMode: false }),
        release,
        ...(size > ENTRY_BYTES_MAX ? { leftOut: 'is larger than 16 GiB' } : {}),
      };
      await released;
      entry.resume();
    }
    // Between two entries a cut is seen by this only: an import that lost the second half must not look whole.
    if (tail.some((byte) => byte !== 0))
      yield leftOut(path, 'ends without the end mark of a tar: it may have been cut short');
  } catch (cause) {
    throw new BrokenArchive(gzip ? 'tar.gz' : 'tar', cause);
  } finally {
    source.destroy();
  }
}

/** Ending early must not destroy the entry, and with it the archive. */
async function* passing(entry: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const iterator = entry[Symbol.asyncIterator]();
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
}
