// Instances into a folder or a tar: whole or not at all.
import { createWriteStream } from 'node:fs';
import { mkdir, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type Pack, pack } from 'tar-stream';
import { CommandFailure, EXIT, type House } from './command.ts';
import { fileName, retrieve, type Target } from './dicomweb.ts';
import { pool } from './pool.ts';
import { progress } from './progress.ts';

const AT_ONCE = 4;

export interface Written {
  instances: number;
  bytes: number;
}

export async function toFolder(house: House, folder: string, targets: AsyncIterable<Target>): Promise<Written> {
  const written = { instances: 0, bytes: 0 };
  const bar = progress(house.errors, house.json);
  try {
    await pool(targets, AT_ONCE, async (target) => {
      const path = join(folder, fileName(target));
      const partial = `${path}.part`;
      await mkdir(dirname(path), { recursive: true });
      const answer = await retrieve(house.client, target, house.signal);
      let length = 0;
      answer.body.on('data', (chunk: Buffer) => (length += chunk.length));
      try {
        await pipeline(answer.body, createWriteStream(partial), { signal: house.signal });
        await rename(partial, path);
      } catch (error) {
        await unlink(partial).catch(() => undefined); // it may not have been made; the error below counts
        throw told(error, house);
      }
      written.instances++;
      written.bytes += length;
      bar.show(written.instances, 0, written.bytes);
    });
  } finally {
    bar.end();
  }
  return written;
}

export async function toTar(
  house: House,
  output: NodeJS.WritableStream,
  targets: AsyncIterable<Target>,
  quiet: boolean,
): Promise<Written> {
  const written = { instances: 0, bytes: 0 };
  const bar = progress(house.errors, house.json || quiet);
  const archive = pack();
  const done = pipeline(archive as unknown as AsyncIterable<Buffer>, output, { end: true });
  done.catch(() => undefined); // awaited below, after the loop that it also ends
  try {
    const names = new Set<string>();
    for await (const target of targets) {
      if (house.signal.aborted) throw new CommandFailure(EXIT.interrupted, 'interrupted', 'interrupted');
      const name = fileName(target);
      if (names.has(name)) continue;
      names.add(name);
      const answer = await retrieve(house.client, target, house.signal);
      const size = Number(answer.headers['content-length']);
      if (!Number.isSafeInteger(size))
        throw new CommandFailure(EXIT.failed, 'no-length', 'the server does not say how long an instance is');
      await Promise.race([entry(archive, name, size, answer.body), done]);
      written.instances++;
      written.bytes += size;
      bar.show(written.instances, 0, written.bytes);
    }
    archive.finalize();
    await done;
  } catch (error) {
    archive.destroy();
    throw told(error, house);
  } finally {
    bar.end();
  }
  return written;
}

/** A fixed time: the same study gives the same tar. */
const MTIME = new Date('2000-01-01T00:00:00Z');

async function entry(archive: Pack, name: string, size: number, body: AsyncIterable<Buffer>): Promise<void> {
  const sink = archive.entry({ name, size, mtime: MTIME, mode: 0o644 });
  const failed = new Promise<never>((_, reject) => sink.once('error', reject));
  failed.catch(() => undefined); // raced below
  const closed = new Promise<void>((resolve) => sink.once('close', () => resolve()));
  for await (const chunk of body) {
    if (!sink.write(chunk))
      await Promise.race([new Promise<void>((resolve) => sink.once('drain', () => resolve())), failed]);
  }
  (sink as unknown as { end(): void }).end(); // streamx types want a last chunk
  await Promise.race([closed, failed]);
}

function told(error: unknown, house: House): unknown {
  if (house.signal.aborted) return new CommandFailure(EXIT.interrupted, 'interrupted', 'interrupted');
  if (error instanceof CommandFailure) return error;
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE')
    return new CommandFailure(EXIT.failed, 'cut-off', 'the server broke off in the middle of an instance', {
      cause: error,
    });
  if (typeof code === 'string')
    return new CommandFailure(EXIT.failed, 'write', `cannot write (${code})`, { cause: error });
  return error;
}
