import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext as Test, test } from 'node:test';
import { readPart10Prefix } from '#dicom/part10.ts';
import { BULK } from '#platform/routes.ts';
import { createTestContext } from '#platform/testing.ts';
import type { StoreResponse } from '#proto/ingest/v1/ingest.ts';
import { FakeStorage } from './fake-storage.testing.ts';
import { module } from './module.ts';
import { chunked } from './sample.testing.ts';

/**
 * Every real file of ours through both doors: kept byte for byte, or refused as `open-refused.tsv` says, which is for people to read
 * (`node --test --test-update-snapshots services/ingest/open-files.test.ts` writes it anew).
 */
const OPEN = join(import.meta.dirname, '../../../shared/data/open');
const SAMPLES = join(import.meta.dirname, '../../tools/demo/samples');
const SOURCE = { door: 'TEST', callingAeTitle: 'TEST', calledAeTitle: '', address: '', defaultCharset: '' };

const hex = (n: number, digits = 4) => n.toString(16).toUpperCase().padStart(digits, '0');
const outcome = ({ status, error, errorComment, offendingElements, notDicom }: StoreResponse) =>
  [
    hex(status),
    notDicom ? `${error} (no DICOM)` : error,
    errorComment,
    offendingElements.map((tag) => hex(tag, 8)).join(' '),
  ].join('\t');

async function through(directory: string): Promise<string[]> {
  const storage = new FakeStorage();
  const context = await createTestContext({ modules: [storage.module, module] });
  const lines: string[] = [];
  try {
    const paths = (await Array.fromAsync(glob('**/*', { cwd: directory, withFileTypes: true })))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
      .sort();
    assert.ok(paths.length > 0, `no files in ${directory}`);
    for (const [n, path] of paths.entries()) {
      const file = await readFile(join(directory, path));
      const size = [64 * 1024, 16_384, 100_000, 777][n % 4]!;

      const asFile = (
        await context.bulk(BULK.storePart10)(
          context.call(),
          { source: SOURCE, studyInstanceUid: '' },
          chunked(file, size),
        )
      ).response;
      if (asFile.error !== '') lines.push([path, 'Part 10', outcome(asFile)].join('\t'));
      else {
        const kept = storage.kept.pop()!;
        const prefix = readPart10Prefix(file, true);
        assert.ok(prefix.needMoreBytes === undefined);
        if (prefix.complete) assert.ok(kept.file.equals(file), `${path}: the file is kept as it came`);
        assert.ok(
          kept.file.subarray(kept.instance.dataSetOffset).equals(file.subarray(prefix.dataSetOffset)),
          `${path}: data set`,
        );
      }

      const prefix = prefixOf(file);
      const request = {
        sopClassUid: prefix?.meta.mediaStorageSopClassUid ?? '',
        sopInstanceUid: prefix?.meta.mediaStorageSopInstanceUid ?? '',
        transferSyntaxUid: prefix?.transferSyntaxUid ?? '1.2.840.10008.1.2',
        source: SOURCE,
      };
      const data = file.subarray(prefix?.dataSetOffset ?? 0);
      const asDataSet = (await context.bulk(BULK.store)(context.call(), request, chunked(data, size))).response;
      if (asDataSet.error !== '') lines.push([path, 'C-STORE', outcome(asDataSet)].join('\t'));
      else {
        const kept = storage.kept.pop()!;
        assert.ok(
          kept.file.subarray(kept.instance.dataSetOffset).equals(data),
          `${path}: the data set is kept as it came`,
        );
      }
      assert.deepEqual(storage.kept, []);
      storage.objects.clear();
    }
  } finally {
    await context.stop();
  }
  return lines;
}

function prefixOf(file: Buffer) {
  try {
    const prefix = readPart10Prefix(file, true);
    return prefix.needMoreBytes === undefined ? prefix : undefined;
  } catch {
    return undefined; // no DICOM: it goes in as a data set, and is refused as what it is
  }
}

test('every open file is kept byte for byte, or refused as the table says', async (t: Test) => {
  if (!existsSync(OPEN)) {
    assert.ok(!process.env.CI, `with CI=true ${OPEN} must be there`);
    t.diagnostic(`${OPEN} is absent: the samples of the repo are used instead`);
    assert.deepEqual(await through(SAMPLES), [], 'every sample is taken');
    return;
  }
  const lines = await through(OPEN);
  t.assert.fileSnapshot(lines.join('\n') + '\n', join(import.meta.dirname, 'open-refused.tsv'), {
    serializers: [(value: string) => value],
  });
});
