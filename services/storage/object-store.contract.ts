import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { GantryError } from '#platform/errors.ts';
import { bytesOf } from './log/sample.testing.ts';
import type { ArchiveBed } from './log-store.contract.ts';
import type { ObjectStore } from './ports.ts';

const isCode = (code: string) => (error: unknown) => error instanceof GantryError && error.code === code;

async function* chunks(bytes: Buffer, size: number): AsyncIterable<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export function objectStoreContract(name: string, make: () => Promise<ArchiveBed>): void {
  const withStore = (title: string, work: (objects: ObjectStore, bed: ArchiveBed) => Promise<void>) =>
    test(title, async () => {
      const bed = await make();
      const archive = await bed.open();
      try {
        await work(archive.objects, bed);
      } finally {
        await archive.close();
        await bed.dispose();
      }
    });

  describe(`ObjectStore: ${name}`, () => {
    withStore('an object reads as it was put, whole and in ranges', async (objects) => {
      const bytes = randomBytes(3_000_000);
      const put = await objects.put('large/main/a/one.dcm', chunks(bytes, 65_536));
      assert.deepEqual(put, { bytes: bytes.length });
      assert.equal((await objects.stat('large/main/a/one.dcm'))?.bytes, bytes.length);
      assert.deepEqual(await bytesOf(objects.read('large/main/a/one.dcm', 0, bytes.length)), bytes);
      for (const [offset, length] of [
        [0, 0],
        [1, 1],
        [524_287, 2],
        [1_000_000, 1_500_000],
        [2_999_999, 1],
      ] as const)
        assert.deepEqual(
          await bytesOf(objects.read('large/main/a/one.dcm', offset, length)),
          bytes.subarray(offset, offset + length),
        );
    });

    withStore('an object in thousands of small pieces, and one of none', async (objects) => {
      const bytes = randomBytes(40_000);
      await objects.put('pack/main/small.tar', chunks(bytes, 9));
      assert.deepEqual(await bytesOf(objects.read('pack/main/small.tar', 0, bytes.length)), bytes);
      assert.equal((await objects.put('pack/main/none.tar', chunks(Buffer.alloc(0), 1))).bytes, 0);
    });

    withStore('what is not there is not-found; what is too short is damaged', async (objects) => {
      assert.equal(await objects.stat('large/main/a/none.dcm'), undefined);
      await assert.rejects(bytesOf(objects.read('large/main/a/none.dcm', 0, 1)), isCode('not-found'));
      await objects.put('large/main/a/short.dcm', chunks(Buffer.from('short'), 2));
      await assert.rejects(bytesOf(objects.read('large/main/a/short.dcm', 0, 6)), isCode('damaged'));
      for (const key of ['large/main/../x', 'nothing', '/etc/passwd', 'state/main/x']) {
        await assert.rejects(bytesOf(objects.read(key, 0, 1)), isCode('not-found'));
        await assert.rejects(objects.put(key, chunks(Buffer.from('x'), 1)), isCode('not-found'));
      }
    });

    withStore('a key is put once; a body that fails leaves nothing', async (objects) => {
      await objects.put('pack/main/p.tar', chunks(Buffer.from('first'), 9));
      await assert.rejects(objects.put('pack/main/p.tar', chunks(Buffer.from('second'), 9)), isCode('already-exists'));
      assert.equal((await bytesOf(objects.read('pack/main/p.tar', 0, 5))).toString(), 'first');
      const broken = async function* (): AsyncIterable<Buffer> {
        yield Buffer.from('half');
        throw new GantryError('cancelled', 'the sender left');
      };
      await assert.rejects(objects.put('large/main/a/broken.dcm', broken()), isCode('cancelled'));
      assert.equal(await objects.stat('large/main/a/broken.dcm'), undefined);
    });

    withStore('removed is gone, for readers that had it open too', async (objects) => {
      await objects.put('pack/main/p.tar', chunks(Buffer.from('bytes'), 9));
      await bytesOf(objects.read('pack/main/p.tar', 0, 5));
      assert.equal(await objects.remove('pack/main/p.tar'), true);
      assert.equal(await objects.remove('pack/main/p.tar'), false);
      await assert.rejects(bytesOf(objects.read('pack/main/p.tar', 0, 5)), isCode('not-found'));
    });

    withStore('a list is of one area and one tenant', async (objects) => {
      for (const key of ['large/main/a/1.dcm', 'large/main/b/2.dcm', 'large/other/a/3.dcm', 'pack/main/4.tar'])
        await objects.put(key, chunks(Buffer.from(key), 9));
      const listed: string[] = [];
      for await (const { object, bytes } of objects.list('large', 'main')) {
        assert.equal(bytes, object.length);
        listed.push(object);
      }
      assert.deepEqual(listed.sort(), ['large/main/a/1.dcm', 'large/main/b/2.dcm']);
      for await (const _ of objects.list('pack', 'nobody')) assert.fail('nothing is there');
      const { freeBytes, totalBytes } = await objects.space();
      assert.ok(freeBytes > 0 && totalBytes >= freeBytes);
    });

    withStore('many objects at once are more than the open files allowed', async (objects) => {
      const keys = Array.from({ length: 30 }, (_, i) => `pack/main/${i}.tar`);
      await Promise.all(keys.map((key) => objects.put(key, chunks(Buffer.from(key), 4))));
      for (let round = 0; round < 2; round++)
        await Promise.all(
          keys.map(async (key) => assert.equal((await bytesOf(objects.read(key, 0, key.length))).toString(), key)),
        );
    });
  });
}
