import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DicomError } from './errors.ts';
import { IMPLEMENTATION_CLASS_UID, type Part10Prefix, readPart10Prefix, writePart10Prefix } from './part10.ts';
import {
  BIG_ENDIAN,
  EXPLICIT,
  EXPLICIT_BE,
  element,
  IMPLICIT,
  IMPLICIT_LE,
  identity,
  JPEG,
  openFiles,
} from './test-kit.ts';

const PREAMBLE = Buffer.concat([Buffer.alloc(128), Buffer.from('DICM')]);
const meta = (uid = JPEG): Buffer =>
  Buffer.concat([
    element(0x00020002, 'UI', '1.2'),
    element(0x00020003, 'UI', '1.3'),
    element(0x00020010, 'UI', `${uid}\0`),
  ]);
const read = (file: Buffer): Part10Prefix => {
  const prefix = readPart10Prefix(file, true);
  assert.ok(prefix.needMoreBytes === undefined);
  return prefix;
};

describe('what we write', () => {
  const written = writePart10Prefix({
    sopClassUid: '1.2.840.10008.5.1.4.1.1.7',
    sopInstanceUid: '2.25.1',
    transferSyntaxUid: EXPLICIT,
    sourceAeTitle: 'MODALITY',
  });
  it('is read again, and complete', () => {
    const prefix = read(Buffer.concat([written, identity()]));
    assert.deepEqual(prefix, {
      hasPreamble: true,
      complete: true,
      meta: {
        mediaStorageSopClassUid: '1.2.840.10008.5.1.4.1.1.7',
        mediaStorageSopInstanceUid: '2.25.1',
        transferSyntaxUid: EXPLICIT,
        implementationClassUid: IMPLEMENTATION_CLASS_UID,
        implementationVersionName: 'GANTRY_0.1',
        sourceAeTitle: 'MODALITY',
      },
      dataSetOffset: written.length,
      transferSyntaxUid: EXPLICIT,
      guessed: false,
    });
    assert.ok(IMPLEMENTATION_CLASS_UID.length <= 64);
  });
  it('is what DCMTK calls a file', {
    skip: spawnSync('dcmdump', ['--version']).status !== 0 && !process.env.CI,
  }, () => {
    const folder = mkdtempSync(join(tmpdir(), 'gantry-part10-'));
    try {
      writeFileSync(join(folder, 'a.dcm'), Buffer.concat([written, identity()]));
      const dump = spawnSync('dcmdump', ['+f', join(folder, 'a.dcm')], { encoding: 'latin1' });
      assert.equal(dump.status, 0, dump.stderr);
      assert.equal(dump.stderr, '');
      assert.match(dump.stdout, /GANTRY_0\.1/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('what the field writes', () => {
  it('without group length, or with a wrong one', () => {
    for (const first of [
      Buffer.alloc(0),
      element(0x00020000, 'UL', Buffer.from([3, 0, 0, 0])),
      element(0x00020000, 'UL', Buffer.from([0xff, 0xff, 0, 0])),
    ]) {
      const file = Buffer.concat([PREAMBLE, first, meta(), identity()]);
      assert.equal(read(file).dataSetOffset, file.length - identity().length);
      assert.equal(read(file).transferSyntaxUid, JPEG);
    }
  });
  it('without preamble, without prefix, without group 0002', () => {
    assert.equal(read(Buffer.concat([meta(), identity()])).transferSyntaxUid, JPEG);
    assert.equal(read(Buffer.concat([meta(), identity()])).complete, false);
    assert.equal(read(Buffer.concat([PREAMBLE, meta(), identity()])).complete, true);
    assert.equal(read(Buffer.concat([Buffer.from('DICM'), meta(), identity()])).dataSetOffset, 4 + meta().length);
    assert.deepEqual(
      [read(identity()).dataSetOffset, read(identity()).transferSyntaxUid, read(identity()).guessed],
      [0, EXPLICIT, true],
    );
    assert.equal(read(identity(IMPLICIT_LE)).transferSyntaxUid, IMPLICIT);
    assert.equal(read(identity(EXPLICIT_BE)).transferSyntaxUid, BIG_ENDIAN);
    assert.equal(read(Buffer.concat([PREAMBLE, identity(EXPLICIT_BE)])).transferSyntaxUid, BIG_ENDIAN);
  });
  it('in big endian', () => {
    const uids = [element(0x00020003, 'UI', '1.3', EXPLICIT_BE), element(0x00020010, 'UI', BIG_ENDIAN, EXPLICIT_BE)];
    const file = Buffer.concat([PREAMBLE, ...uids, identity(EXPLICIT_BE)]);
    const prefix = read(file);
    assert.equal(prefix.transferSyntaxUid, BIG_ENDIAN);
    assert.equal(prefix.meta.mediaStorageSopInstanceUid, '1.3');
    assert.equal(prefix.dataSetOffset, file.length - identity(EXPLICIT_BE).length);
  });
  it('in implicit VR, with odd lengths and space padding', () => {
    const implicit = Buffer.concat([
      element(0x00020003, 'UI', '1.3', IMPLICIT_LE),
      element(0x00020010, 'UI', `${EXPLICIT} `, IMPLICIT_LE),
    ]);
    assert.equal(read(Buffer.concat([PREAMBLE, implicit, identity()])).transferSyntaxUid, EXPLICIT);
  });
  it('without a transfer syntax is not complete', () => {
    const prefix = read(Buffer.concat([PREAMBLE, element(0x00020002, 'UI', '1.2'), identity(IMPLICIT_LE)]));
    assert.deepEqual([prefix.complete, prefix.guessed, prefix.transferSyntaxUid], [false, true, IMPLICIT]);
  });
});

describe('what is none', () => {
  it('text, a picture, nothing', () => {
    for (const file of [
      'hello world, this is a text that is longer than a header',
      '\x89PNG\r\n\x1a\n\0\0\0\rIHDR',
      '%PDF-1.7\n%',
      '{"a":1}',
      '',
      'PK\x03\x04\0\0\0\0',
    ]) {
      assert.throws(() => read(Buffer.from(file, 'latin1')), { reason: 'not-dicom' }, file);
    }
  });
  it('lying lengths in group 0002', () => {
    assert.throws(
      () => read(Buffer.concat([PREAMBLE, element(0x00020102, 'OB', Buffer.alloc(4), undefined, 0x7fffffff)])),
      { reason: 'bad-header' },
    );
    assert.throws(() => read(Buffer.concat([PREAMBLE, element(0x00020102, 'OB', Buffer.alloc(4), undefined, 5000)])), {
      reason: 'truncated',
    });
  });
  it('any bytes: a prefix, more bytes, or an error of our own; and asking for more comes to an end', () => {
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.concat([PREAMBLE, meta(), Buffer.from(bytes)])),
      fc
        .uint8Array({ maxLength: 60 })
        .map((bytes) => Buffer.concat([PREAMBLE, Buffer.from([2, 0]), Buffer.from(bytes)])),
    );
    fc.assert(
      fc.property(noise, (file) => {
        try {
          let have = 0;
          for (;;) {
            const prefix = readPart10Prefix(file.subarray(0, have), have >= file.length);
            if (prefix.needMoreBytes === undefined) break;
            assert.ok(prefix.needMoreBytes > have);
            have = Math.min(prefix.needMoreBytes, file.length);
          }
        } catch (error) {
          assert.ok(error instanceof DicomError, String(error));
        }
      }),
      { numRuns: 1000 },
    );
  });
});

it('the real files: reading grows to the same prefix as reading all', { skip: openFiles().length === 0 }, () => {
  for (const file of openFiles()) {
    if (/no_meta\.dcm/.test(file.path)) continue;
    const bytes = file.read();
    const whole = read(bytes);
    let have = 1;
    for (;;) {
      const prefix = readPart10Prefix(bytes.subarray(0, have), have >= bytes.length);
      if (prefix.needMoreBytes === undefined) {
        assert.deepEqual(prefix, whole, file.path);
        break;
      }
      have = prefix.needMoreBytes;
    }
  }
});
