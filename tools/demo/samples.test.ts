import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import dicomParser from 'dicom-parser';
import { requirePeer, without } from '../setup/peers.ts';
import { sampleFiles, sampleRows } from './samples.ts';
import { samples } from './synthesise.ts';

test('the samples are the same bytes on every machine', () => {
  const hash = createHash('sha256');
  for (const { name, bytes } of samples()) hash.update(name).update(bytes);
  // Changes only with the samples themselves: then this is the new digest.
  assert.equal(hash.digest('hex').slice(0, 16), '0f0bbe1d4e84c823');
});

test('three people who do not exist, and pydicom’s: every UID once, every modality that the demo promises', async () => {
  const rows = await sampleRows();
  assert.equal(rows.length, 46);
  assert.equal(new Set(rows.map((row) => row.sopInstanceUid)).size, rows.length);
  for (const modality of ['CT', 'MR', 'US', 'CR', 'DOC', 'OT', 'SR']) {
    assert.ok(
      rows.some((row) => row.modality === modality),
      modality,
    );
  }
  for (const row of rows) {
    for (const uid of [row.studyInstanceUid, row.seriesInstanceUid, row.sopInstanceUid]) {
      assert.match(uid, /^(0|[1-9]\d*)(\.(0|[1-9]\d*))+$/);
      assert.ok(uid.length <= 64);
    }
  }
});

test('the CT is a volume: one series, slices 5 mm apart in one direction, one frame of reference, pixels that differ', async () => {
  const slices = (await sampleFiles())
    .filter((path) => path.includes('/ct/2/'))
    .map((path) => {
      const dataSet = dicomParser.parseDicom(readFileSync(path));
      const pixels = dataSet.elements.x7fe00010!;
      assert.equal(pixels.length, dataSet.uint16('x00280010')! * dataSet.uint16('x00280011')! * 2);
      return {
        series: dataSet.string('x0020000e'),
        frame: dataSet.string('x00200052'),
        z: Number(dataSet.string('x00200032')!.split('\\')[2]),
        pixels: createHash('sha256')
          .update(dataSet.byteArray.subarray(pixels.dataOffset, pixels.dataOffset + pixels.length))
          .digest('hex'),
      };
    });
  assert.equal(slices.length, 30);
  assert.equal(new Set(slices.map((slice) => slice.series)).size, 1);
  assert.equal(new Set(slices.map((slice) => slice.frame)).size, 1);
  assert.equal(new Set(slices.map((slice) => slice.pixels)).size, 30);
  for (let i = 1; i < slices.length; i++) assert.equal(slices[i]!.z - slices[i - 1]!.z, 5);
});

test('DCMTK reads every sample', { skip: without('dcmdump') }, async () => {
  execFileSync(requirePeer('dcmdump'), ['-q', '+fo', ...(await sampleFiles())], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
});

test('dicom3tools finds no error in what we synthesise', { skip: without('dciodvfy') }, async () => {
  const dciodvfy = requirePeer('dciodvfy');
  const files = (await sampleFiles()).filter((path) => !path.includes('/pydicom/'));
  assert.equal(files.length, 43);
  for (const path of files) {
    const { stderr, stdout } = spawnSync(dciodvfy, [path], { encoding: 'utf8' });
    const lines = `${stdout}${stderr}`.split('\n');
    // It says which kind of object it took the file for: so we know that it looked.
    assert.ok(
      lines.some((line) => /^(CTImage|MRImage|USMultiFrameImage|CRImage|EncapsulatedPDF)$/.test(line)),
      stderr,
    );
    assert.deepEqual(
      lines.filter((line) => line.startsWith('Error')),
      [],
      path,
    );
  }
});
