import { join } from 'node:path';
import { GantryError } from '#platform/errors.ts';
import type { ByteSource } from '../../log/scan.ts';
import { codeOf, type Disk, type DiskFile } from './disk.ts';

interface Handle {
  readonly file: Promise<DiskFile>;
  users: number;
  stale: boolean;
}

/** Open files for reading, the least recently used closed first. Objects never change, so a handle stays true until its object goes. */
export class Handles {
  readonly #disk: Disk;
  readonly #root: string;
  readonly #max: number;
  readonly #open = new Map<string, Handle>();

  constructor(disk: Disk, root: string, max: number) {
    this.#disk = disk;
    this.#root = root;
    this.#max = max;
  }

  /** `not-found` when the object is gone. */
  async use<T>(object: string, work: (file: DiskFile) => Promise<T>): Promise<T> {
    let handle = this.#open.get(object);
    this.#open.delete(object);
    handle ??= { file: this.#disk.open(join(this.#root, object), 'read'), users: 0, stale: false };
    this.#open.set(object, handle); // the youngest
    handle.users++;
    try {
      return await work(await handle.file);
    } catch (error) {
      this.forget(object); // a handle that failed once is not kept
      if (codeOf(error) === 'ENOENT') throw new GantryError('not-found', `no object ${object}`, { cause: error });
      throw error;
    } finally {
      handle.users--;
      this.#closeIfDone(handle);
      this.#trim();
    }
  }

  /** The object was removed or replaced: later readers open it anew, or find it gone. */
  forget(object: string): void {
    const handle = this.#open.get(object);
    if (!handle) return;
    this.#open.delete(object);
    handle.stale = true;
    this.#closeIfDone(handle);
  }

  /** For readers of tables: the object as bytes up to `bytes`. */
  source(object: string, bytes: number): ByteSource {
    return {
      bytes,
      read: (offset, length) =>
        this.use(object, async (file) => {
          const buffer = Buffer.allocUnsafe(Math.max(0, Math.min(length, bytes - offset)));
          return buffer.subarray(0, await file.read(buffer, offset));
        }),
    };
  }

  async close(): Promise<void> {
    for (const object of [...this.#open.keys()]) this.forget(object);
  }

  #trim(): void {
    if (this.#open.size <= this.#max) return;
    for (const [object, handle] of this.#open) {
      if (this.#open.size <= this.#max) return;
      if (handle.users === 0) this.forget(object);
    }
  }

  #closeIfDone(handle: Handle): void {
    if (!handle.stale || handle.users > 0) return;
    handle.users = Number.NEGATIVE_INFINITY; // once
    handle.file.then((file) => file.close()).catch(() => {}); // nothing was written through it; opening it may have failed
  }
}
