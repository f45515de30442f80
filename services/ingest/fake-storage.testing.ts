import assert from 'node:assert/strict';
import { Part10Digest } from '#dicom/digest.ts';
import { GantryError } from '#platform/errors.ts';
import type { Module } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import type { Instance } from '#proto/storage/v1/log.ts';

/** For tests: storage that keeps in memory, checks what it is given, and fails when told to. */
export class FakeStorage {
  readonly kept: { instance: Instance; file: Buffer }[] = [];
  readonly objects = new Map<string, Buffer>();
  /** Awaited, or thrown, before the route of that name does anything. */
  before: Partial<Record<'appendInstance' | 'putLarge' | 'appendLarge', () => unknown>> = {};
  /** Fails `putLarge` after so many bytes. */
  failLargeAfter = Infinity;
  smallLimit = 4 * 1024 * 1024;
  inFlight = 0;
  inFlightMost = 0;
  #sequence = 0;

  readonly module: Module = {
    name: 'fake-storage',
    settings: {},
    start: async (context) => {
      context.serveBulk(BULK.appendInstance, async (_call, { instance }, body) => {
        this.inFlightMost = Math.max(this.inFlightMost, ++this.inFlight);
        try {
          const file = await bytesOf(body);
          await this.before.appendInstance?.();
          assert.ok(file.length <= this.smallLimit, 'a small instance is small');
          assert.equal(instance!.place!.length, file.length);
          return { response: this.#commit(instance!, file) };
        } finally {
          this.inFlight--;
        }
      });
      context.serveBulk(BULK.putLarge, async (_call, _request, body) => {
        await this.before.putLarge?.();
        const object = `large/${this.objects.size}`;
        const chunks: Buffer[] = [];
        let length = 0;
        for await (const chunk of body) {
          chunks.push(Buffer.from(chunk));
          if ((length += chunk.length) > this.failLargeAfter) throw new GantryError('no-space', 'the disk is full');
        }
        this.objects.set(object, Buffer.concat(chunks));
        return { response: { object, length, digest: Buffer.alloc(0) } };
      });
      context.serveBulk(BULK.appendLarge, async (_call, { instance }) => {
        await this.before.appendLarge?.();
        const file = this.objects.get(instance!.place!.object);
        assert.ok(file, 'a large instance was put before it is committed');
        return { response: this.#commit(instance!, file) };
      });
      return { stop: async () => {} };
    },
  };

  #commit(instance: Instance, file: Buffer) {
    const { version, digest } = new Part10Digest(instance.transferSyntaxUid, instance.dataSetOffset)
      .update(file)
      .finish();
    assert.deepEqual(Buffer.from(instance.version), version, 'the version is that of the bytes');
    assert.deepEqual(Buffer.from(instance.digest), digest, 'the digest is that of the file');
    assert.equal(instance.place!.length, file.length);
    this.kept.push({ instance, file });
    const position = { lane: 'LANE', sequence: ++this.#sequence };
    return { id: { ...position, n: 0 }, position, place: instance.place };
  }
}

export async function bytesOf(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}
