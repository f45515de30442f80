import { dirname, join } from 'node:path';
import { GantryError } from '#platform/errors.ts';
import { SLAB_BYTES, takeBytes } from '#platform/slabs.ts';
import { checkObjectKey, checkTenant } from '../../log/names.ts';
import type { ObjectRow, ObjectStore } from '../../ports.ts';
import { codeOf, type Disk, type DurableDirectories, isFull } from './disk.ts';
import type { Handles } from './handles.ts';

/** Pieces of a body are gathered to this before they are written: a socket gives 64 KiB, a disk likes more. */
const WRITE_CHUNK = 1024 * 1024;

export class FsObjectStore implements ObjectStore {
  readonly #disk: Disk;
  readonly #root: string;
  readonly #directories: DurableDirectories;
  readonly #handles: Handles;

  constructor(disk: Disk, root: string, directories: DurableDirectories, handles: Handles) {
    this.#disk = disk;
    this.#root = root;
    this.#directories = directories;
    this.#handles = handles;
  }

  async put(object: string, body: AsyncIterable<Buffer>): Promise<{ bytes: number }> {
    const path = join(this.#root, checkObjectKey(object));
    try {
      await this.#directories.ensure(dirname(path));
      const file = await this.#disk.open(path, 'create');
      let bytes = 0;
      let failed = true;
      try {
        let gathered: Buffer[] = [];
        let size = 0;
        const write = async (): Promise<void> => {
          await file.write(gathered, bytes);
          bytes += size;
          gathered = [];
          size = 0;
        };
        for await (const piece of body) {
          gathered.push(piece);
          size += piece.length;
          if (size >= WRITE_CHUNK) await write();
        }
        await write();
        await file.flush('object');
        failed = false;
      } finally {
        await file.close().catch(() => {}); // what counts was flushed, or the object is given up
        if (failed) await this.#disk.unlink(path).catch(() => {}); // an orphan; the keeper sweeps it
      }
      await this.#disk.flushDirectory(dirname(path), 'object-name');
      return { bytes };
    } catch (error) {
      if (isFull(error)) throw new GantryError('no-space', 'the disk is full', { cause: error });
      if (codeOf(error) === 'EEXIST')
        throw new GantryError('already-exists', 'the object is there already', { cause: error });
      if (codeOf(error) === 'EIO')
        throw new GantryError('unavailable', 'the object could not be written', { cause: error });
      throw error;
    }
  }

  async stat(object: string): Promise<ObjectRow | undefined> {
    const stat = await this.#disk.stat(join(this.#root, checkObjectKey(object)));
    return stat && { object, ...stat };
  }

  async *read(object: string, offset: number, length: number): AsyncIterable<Buffer> {
    checkObjectKey(object);
    const chunkAt = (at: number): Promise<Buffer> =>
      this.#handles.use(object, async (file) => {
        const target = takeBytes(Math.min(SLAB_BYTES, offset + length - at));
        if ((await file.read(target, at)) < target.length)
          throw new GantryError('damaged', `${object} ends before ${at + target.length}`);
        return target;
      });
    let ahead = length > 0 ? chunkAt(offset) : undefined;
    for (let at = offset; ahead; ) {
      const chunk: Buffer = await ahead;
      at += chunk.length;
      ahead = at < offset + length ? chunkAt(at) : undefined;
      ahead?.catch(() => {}); // thrown when it is awaited; a consumer that left does not want to know
      yield chunk;
    }
  }

  async remove(object: string): Promise<boolean> {
    try {
      await this.#disk.unlink(join(this.#root, checkObjectKey(object)));
      this.#handles.forget(object); // afterwards: a reader in between would open it again
      return true;
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return false;
      throw error;
    }
  }

  async *list(area: 'log' | 'pack' | 'large', tenant: string): AsyncIterable<ObjectRow> {
    yield* this.#walk(`${area}/${checkTenant(tenant)}`);
  }

  space(): Promise<{ freeBytes: number; totalBytes: number }> {
    return this.#disk.space(this.#root);
  }

  /** A body that fails takes its file with it; one whose process was killed is an object that no entry names. */
  async sweepUploads(): Promise<number> {
    return 0;
  }

  async *#walk(prefix: string): AsyncIterable<ObjectRow> {
    for (const { name, directory } of await this.#disk.list(join(this.#root, prefix))) {
      const object = `${prefix}/${name}`;
      if (directory) yield* this.#walk(object);
      else {
        const stat = await this.#disk.stat(join(this.#root, object));
        if (stat) yield { object, ...stat };
      }
    }
  }
}
