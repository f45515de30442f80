// Metadata and frames of every stored file, against pydicom's reading of the same files.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pythonWithPynetdicom, without } from '../setup/peers.ts';
import { testFiles } from './files.ts';
import { type GantryServer, startServer } from './server.ts';

describe('what pydicom reads of the files', { skip: without('pynetdicom'), timeout: 15 * 60_000 }, () => {
  let server: GantryServer;
  const lines = new Map<string, string>();

  before(async () => {
    server = await startServer();
    for (const file of (await testFiles()).files) {
      const answer = await fetch(`${server.origin}/api/v1/instances`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/dicom' },
        body: new Uint8Array(file.bytes),
      });
      const { status } = (await answer.json()) as { status: number };
      const uids = [file.studyInstanceUid, file.seriesInstanceUid, file.sopInstanceUid].join('\t');
      // The first of several versions shows (keep-first).
      if (status === 0 && !lines.has(uids)) lines.set(uids, `${file.row.path}\t${uids}`);
    }
    assert.ok(lines.size > 0);
  });
  after(() => server?.close());

  const compare = (script: string) => {
    const { stdout, stderr, status } = spawnSync(
      pythonWithPynetdicom(),
      [join(import.meta.dirname, 'python', script), server.dicomWeb],
      {
        input: [...lines.values()].join('\n'),
        encoding: 'utf8',
        maxBuffer: 2 ** 28,
      },
    );
    assert.equal(stdout, '', 'differences');
    assert.equal(status, 0, stderr);
    return stderr;
  };

  test('metadata: every attribute, nested ones too', () => {
    assert.match(
      compare('metadata.py'),
      new RegExp(`^${lines.size} instances, [1-9]\\d+ attributes compared, 0 differences`, 'm'),
    );
  });

  test('frames: native by position, encapsulated by their offset tables or fragments', () => {
    assert.match(compare('frames.py'), /^[1-9]\d* frames compared, 0 different/m);
  });
});
