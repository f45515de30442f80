import { type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { GantryError } from '#platform/errors.ts';
import type { Bytes } from '#platform/rpc.types.ts';
import { Gathered } from './gathered.ts';

/** Bytes that wait until all that belongs to them has come: bulk data parts of a STOW request (PS3.18 §8.6.1.2). */
export interface Spooled {
  readonly length: number;
  read(): Bytes;
  /** Reading after this fails. */
  dispose(): Promise<void>;
}

export interface SpoolLimits {
  memoryBytes: number;
  diskBytes: number;
}

/** A part up to this length stays in memory where there is room: most are, and a file each would cost more than the instance. */
const IN_MEMORY_BYTES = 1024 * 1024;
const READ_BYTES = 256 * 1024;

/**
 * In memory while small, in a file otherwise: what waits has a bound, and not the sender's. The files mean nothing to anybody after
 * this process: they are neither flushed nor looked at again, and the directory is emptied at the start.
 */
export class Spool {
  readonly #directory: string;
  readonly #limits: () => SpoolLimits;
  #memory = 0;
  #disk = 0;
  #files = 0;

  constructor(directory: string, limits: () => SpoolLimits) {
    this.#directory = directory;
    this.#limits = limits;
  }

  async start(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
    await mkdir(this.#directory, { recursive: true });
  }
  async stop(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }

  get memoryBytes(): number {
    return this.#memory;
  }
  get diskBytes(): number {
    return this.#disk;
  }

  /** Reads all of `body`. Fails with `no-permit` where others hold the room, with `too-large` where there would never be enough. */
  async put(body: Bytes): Promise<Spooled> {
    const gathered = new Gathered();
    let counted = 0;
    let file: FileOfSpool | undefined;
    const release = async () => {
      this.#memory -= counted;
      counted = 0;
      await file?.remove();
    };
    try {
      for await (const chunk of body) {
        if (
          !file &&
          gathered.length + chunk.length <= IN_MEMORY_BYTES &&
          this.#memory + chunk.length <= this.#limits().memoryBytes
        ) {
          this.#memory += chunk.length;
          counted += chunk.length;
          gathered.push(chunk);
          continue;
        }
        if (!file) {
          file = new FileOfSpool(join(this.#directory, String(this.#files++)), (bytes, length) =>
            this.#takeDisk(bytes, length),
          );
          for (const buffer of gathered.buffers.splice(0)) await file.append(buffer);
          this.#memory -= counted;
          counted = 0;
        }
        await file.append(chunk);
      }
    } catch (error) {
      await release();
      throw error;
    }
    const spooled = file;
    if (spooled) return { length: spooled.length, read: () => spooled.read(), dispose: release };
    return { length: gathered.length, read: () => inOrder(gathered.buffers), dispose: release };
  }

  /** `length`: of the file so far. */
  #takeDisk(bytes: number, length: number): void {
    const { diskBytes } = this.#limits();
    if (length + bytes > diskBytes)
      throw new GantryError('too-large', 'a bulk data part exceeds ingest.stowSpoolBytes');
    if (this.#disk + bytes > diskBytes)
      throw new GantryError('no-permit', 'no room for bulk data parts (ingest.stowSpoolBytes)');
    this.#disk += bytes;
  }
}

class FileOfSpool {
  length = 0;
  readonly #path: string;
  readonly #take: (bytes: number, length: number) => void;
  #handle: FileHandle | undefined;
  #removed = false;

  constructor(path: string, take: (bytes: number, length: number) => void) {
    this.#path = path;
    this.#take = take;
  }

  async append(chunk: Buffer): Promise<void> {
    this.#take(chunk.length, this.length);
    this.length += chunk.length;
    try {
      this.#handle ??= await open(this.#path, 'wx+', 0o600);
      for (let at = 0; at < chunk.length; ) at += (await this.#handle.write(chunk, at)).bytesWritten;
    } catch (error) {
      const full =
        (error as NodeJS.ErrnoException).code === 'ENOSPC' || (error as NodeJS.ErrnoException).code === 'EDQUOT';
      throw new GantryError(full ? 'no-space' : 'unavailable', 'a bulk data part could not be put aside', {
        cause: error,
      });
    }
  }

  async *read(): AsyncGenerator<Buffer> {
    for (let at = 0; at < this.length; ) {
      const { bytesRead, buffer } = await this.#handle!.read(
        Buffer.allocUnsafe(Math.min(READ_BYTES, this.length - at)),
        { position: at },
      );
      if (bytesRead === 0)
        throw new GantryError('damaged', 'a bulk data part that was put aside is shorter than it was');
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  async remove(): Promise<void> {
    if (this.#removed) return;
    this.#removed = true;
    this.#take(-this.length, 0);
    await this.#handle?.close();
    await rm(this.#path, { force: true });
  }
}

async function* inOrder(buffers: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* buffers;
}
