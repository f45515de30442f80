import * as fs from 'node:fs';
import { dirname } from 'node:path';

/**
 * The only place that touches node:fs for the archive. Everything that decides whether bytes survive a power cut goes through here, so
 * that disk.model.ts can cut the power. Each flush says why it is there: the power-loss test leaves each out and must fail.
 */
export type FlushReason =
  | 'segment' // a commit, before its answer
  | 'segment-name' // the lane's directory, before the first answer from a new segment
  | 'directory-name' // the parents of a directory that we made, before anything in it counts
  | 'object' // a large instance or a pack
  | 'object-name'
  | 'recovered' // a dead lane's last commit, before it is shown
  | 'recovered-name'
  | 'closed' // a dead lane's closing entry, before it is shown
  | 'thinned' // before the segment that it replaces goes
  | 'thinned-name'
  | 'format';

export interface DiskFile {
  /** Fewer bytes only at the end of the file. */
  read(target: Buffer, offset: number): Promise<number>;
  /** All of them, one after the other, from `offset`. */
  write(buffers: readonly Buffer[], offset: number): Promise<void>;
  truncate(bytes: number): Promise<void>;
  /** fdatasync: contents and size, not the name. */
  flush(reason: FlushReason): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

export interface DiskEntry {
  readonly name: string;
  readonly directory: boolean;
}

export interface Disk {
  /** `create` fails when the name is there; `read` and `change` fail with ENOENT when it is not. */
  open(path: string, mode: 'create' | 'read' | 'change'): Promise<DiskFile>;
  /** True when it was not there before. The parent must be. */
  mkdir(path: string): Promise<boolean>;
  /** Empty when there is no such directory. */
  list(path: string): Promise<DiskEntry[]>;
  stat(path: string): Promise<{ bytes: number; modifiedMs: number } | undefined>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  rmdir(path: string): Promise<void>;
  /** fsync of a directory: the names in it. */
  flushDirectory(path: string, reason: FlushReason): Promise<void>;
  space(path: string): Promise<{ freeBytes: number; totalBytes: number }>;
}

export const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code;
export const isFull = (error: unknown): boolean => ['ENOSPC', 'EDQUOT'].includes(codeOf(error) ?? '');

export type OnFlush = (reason: FlushReason) => void;

class RealFile implements DiskFile {
  readonly #handle: fs.promises.FileHandle;
  readonly #onFlush: OnFlush;
  constructor(handle: fs.promises.FileHandle, onFlush: OnFlush) {
    this.#handle = handle;
    this.#onFlush = onFlush;
  }

  async read(target: Buffer, offset: number): Promise<number> {
    let done = 0;
    while (done < target.length) {
      const { bytesRead } = await this.#handle.read(target, done, target.length - done, offset + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  async write(buffers: readonly Buffer[], offset: number): Promise<void> {
    let rest = buffers.filter((buffer) => buffer.length > 0);
    while (rest.length > 0) {
      const now = rest.slice(0, 1024); // IOV_MAX on Linux
      const { bytesWritten } = await this.#handle.writev(now, offset);
      if (bytesWritten === 0) throw Object.assign(new Error('a write took no bytes'), { code: 'EIO' });
      offset += bytesWritten;
      rest = dropBytes(rest, bytesWritten);
    }
  }

  truncate(bytes: number): Promise<void> {
    return this.#handle.truncate(bytes);
  }
  flush(reason: FlushReason): Promise<void> {
    this.#onFlush(reason);
    return this.#handle.datasync();
  }
  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }
  close(): Promise<void> {
    return this.#handle.close();
  }
}

function dropBytes(buffers: readonly Buffer[], count: number): Buffer[] {
  let i = 0;
  while (i < buffers.length && count >= buffers[i]!.length) count -= buffers[i++]!.length;
  const rest = buffers.slice(i);
  if (count > 0) rest[0] = rest[0]!.subarray(count);
  return rest;
}

/** The kernel's file system; `onFlush` counts what is asked of the medium. */
export const realDiskTelling = (onFlush: OnFlush): Disk => ({
  async open(path, mode) {
    return new RealFile(
      await fs.promises.open(path, mode === 'create' ? 'wx+' : mode === 'read' ? 'r' : 'r+', 0o640),
      onFlush,
    );
  },
  async mkdir(path) {
    try {
      await fs.promises.mkdir(path, 0o750);
      return true;
    } catch (error) {
      if (codeOf(error) === 'EEXIST') return false;
      throw error;
    }
  },
  async list(path) {
    try {
      const entries = await fs.promises.readdir(path, { withFileTypes: true });
      return entries.map((entry) => ({ name: entry.name, directory: entry.isDirectory() }));
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return [];
      throw error;
    }
  },
  async stat(path) {
    try {
      const stat = await fs.promises.stat(path);
      return stat.isFile() ? { bytes: stat.size, modifiedMs: stat.mtimeMs } : undefined;
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '')) return undefined;
      throw error;
    }
  },
  rename: (from, to) => fs.promises.rename(from, to),
  unlink: (path) => fs.promises.unlink(path),
  rmdir: (path) => fs.promises.rmdir(path),
  async flushDirectory(path, reason) {
    onFlush(reason);
    const handle = await fs.promises.open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
  async space(path) {
    const stat = await fs.promises.statfs(path);
    // bavail, not bfree: what root keeps for itself is not ours
    return { freeBytes: stat.bavail * stat.bsize, totalBytes: stat.blocks * stat.bsize };
  },
});
export const realDisk: Disk = realDiskTelling(() => {});

/** A folder a study makes many over the years. One that is forgotten costs a flush when it is used again. */
const DIRECTORIES_KNOWN_MAX = 10_000;

/**
 * Directories whose names are known to be on stable storage. One that an earlier process made may not be: its parents are flushed
 * once more the first time it is used.
 */
export class DurableDirectories {
  readonly #disk: Disk;
  readonly #root: string;
  readonly #knownMax: number;
  /** The one that was used last stands last. */
  readonly #known = new Map<string, Promise<void>>();
  /** Never forgotten: to ask again could hide that a flush failed. */
  readonly #failed = new Map<string, unknown>();

  /** `root` is there and is nobody's concern here. */
  constructor(disk: Disk, root: string, knownMax = DIRECTORIES_KNOWN_MAX) {
    this.#disk = disk;
    this.#root = root;
    this.#knownMax = knownMax;
  }

  /** Makes what is missing. A failed flush stays failed: the kernel may have dropped what it could not write, and would not say so twice. */
  ensure(path: string): Promise<void> {
    if (path === this.#root) return Promise.resolve();
    if (this.#failed.has(path)) return Promise.reject(this.#failed.get(path));
    const known = this.#known.get(path);
    this.#known.delete(path);
    const made = known ?? this.#make(path);
    this.#known.set(path, made);
    if (known === undefined) made.then(() => this.#forget()).catch(() => {}); // thrown to whoever asked for it
    return made;
  }

  async #make(path: string): Promise<void> {
    const parent = dirname(path);
    try {
      await this.ensure(parent);
      await this.#disk.mkdir(path);
    } catch (error) {
      this.#known.delete(path); // nothing was flushed: try again
      throw error;
    }
    try {
      await this.#disk.flushDirectory(parent, 'directory-name');
    } catch (error) {
      this.#failed.set(path, error);
      this.#known.delete(path);
      throw error;
    }
  }

  #forget(): void {
    const [oldest] = this.#known.keys();
    if (oldest !== undefined && this.#known.size > this.#knownMax) this.#known.delete(oldest);
  }
}
