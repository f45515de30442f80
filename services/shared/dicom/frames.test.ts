import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { framePlaces } from './frames.ts';
import { skim } from './skim.ts';
import { EXPLICIT, EXPLICIT_LE, element, identity, item, JPEG, openFiles, sequenceEnd } from './test-kit.ts';

const us = (value: number): Buffer => Buffer.from([value & 0xff, value >> 8]);
interface Shape {
  rows?: number;
  columns?: number;
  frames?: number;
  samples?: number;
  bits?: number;
  photometric?: string;
}
const shape = ({
  rows = 4,
  columns = 4,
  frames = 1,
  samples = 1,
  bits = 8,
  photometric = 'MONOCHROME2 ',
}: Shape): Buffer =>
  Buffer.concat([
    identity(),
    element(0x00280002, 'US', us(samples)),
    element(0x00280004, 'CS', photometric),
    element(0x00280008, 'IS', String(frames)),
    element(0x00280010, 'US', us(rows)),
    element(0x00280011, 'US', us(columns)),
    element(0x00280100, 'US', us(bits)),
  ]);
const native = (of: Shape, bytes: number, tag = 0x7fe00010, vr = 'OW') =>
  framePlaces(skim(Buffer.concat([shape(of), element(tag, vr, Buffer.alloc(bytes))]), EXPLICIT));
const start = (of: Shape): number => shape(of).length + 12;

describe('native frames', () => {
  it('lie one after the other', () => {
    const of = { frames: 3, samples: 3 };
    const frames = native(of, 144);
    assert.equal(frames.count, 3);
    assert.deepEqual(frames.place(2), { ranges: [{ offset: start(of) + 96, length: 48 }], bitShift: 0, bits: 384 });
    assert.throws(() => frames.place(3), { reason: 'no-frames' });
    assert.throws(() => frames.place(-1), { reason: 'no-frames' });
    assert.throws(() => frames.place(0.5), { reason: 'no-frames' });
  });
  it('of one bit are packed across bytes', () => {
    const of = { rows: 5, columns: 5, frames: 3, bits: 1 };
    const frames = native(of, 10);
    assert.deepEqual(frames.place(1), { ranges: [{ offset: start(of) + 3, length: 4 }], bitShift: 1, bits: 25 });
    assert.deepEqual(frames.place(2), { ranges: [{ offset: start(of) + 6, length: 4 }], bitShift: 2, bits: 25 });
  });
  it('of floats, of 12 allocated bits, of 4:2:2', () => {
    assert.equal(native({ frames: 2, bits: 32 }, 128, 0x7fe00008, 'OF').place(1).ranges[0]!.length, 64);
    assert.equal(native({ frames: 2, bits: 64 }, 256, 0x7fe00009, 'OD').place(1).ranges[0]!.length, 128);
    assert.equal(native({ frames: 2, bits: 12 }, 48).place(1).ranges[0]!.length, 24);
    const subsampled = { frames: 2, samples: 3, photometric: 'YBR_FULL_422' };
    assert.equal(native(subsampled, 64).place(1).ranges[0]!.length, 32);
    assert.equal(native(subsampled, 96).place(1).ranges[0]!.length, 48); // stated as 4:2:2, stored as 4:4:4
  });
  it('leave out padding', () => {
    assert.equal(native({ rows: 3, columns: 3 }, 10).place(0).ranges[0]!.length, 9);
  });
  it('that are too few are said to be unclear, none at all are not found', () => {
    assert.throws(() => native({ frames: 4 }, 60), { reason: 'unclear-frames' });
    assert.throws(() => native({ frames: 2_000_000_000, rows: 65535, columns: 65535 }, 60), {
      reason: 'unclear-frames',
    });
    assert.throws(() => framePlaces(skim(shape({}), EXPLICIT)), { reason: 'no-frames' });
    assert.throws(() => native({}, 0), { reason: 'no-frames' });
  });
});

describe('encapsulated frames', () => {
  const u32 = (values: number[]): Buffer => {
    const bytes = Buffer.alloc(values.length * 4);
    for (const [n, value] of values.entries()) bytes.writeUInt32LE(value, n * 4);
    return bytes;
  };
  const u64 = (values: number[]): Buffer => {
    const bytes = Buffer.alloc(values.length * 8);
    for (const [n, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value), n * 8);
    return bytes;
  };
  function encapsulated(frames: number, table: number[], fragments: Buffer[], extended: Buffer[] = [], uid = JPEG) {
    const value = Buffer.concat([item(u32(table)), ...fragments.map((fragment) => item(fragment))]);
    const dataSet = Buffer.concat([
      shape({ frames }),
      ...extended,
      element(0x7fe00010, 'OB', value, EXPLICIT_LE, 0xffffffff),
      sequenceEnd(),
    ]);
    const places = framePlaces(skim(dataSet, uid));
    return (index: number): string =>
      places
        .place(index)
        .ranges.map((range) => dataSet.toString('latin1', range.offset, range.offset + range.length))
        .join('');
  }
  const text = (...fragments: string[]): Buffer[] => fragments.map((fragment) => Buffer.from(fragment, 'latin1'));

  it('by the Basic Offset Table, several fragments a frame', () => {
    const frame = encapsulated(2, [0, 24], text('aaaa', 'bbbb', 'cccc'));
    assert.equal(frame(0), 'aaaabbbb');
    assert.equal(frame(1), 'cccc');
  });
  it('by the Extended Offset Table, padding left out by its lengths', () => {
    const frame = encapsulated(2, [], text('aaaa', 'bbbb'), [
      element(0x7fe00001, 'OV', u64([0, 12])),
      element(0x7fe00002, 'OV', u64([3, 4])),
    ]);
    assert.equal(frame(0), 'aaa');
    assert.equal(frame(1), 'bbbb');
  });
  it('without a table: one fragment a frame, or all of one frame', () => {
    assert.equal(encapsulated(2, [], text('aaaa', 'bbbb'))(1), 'bbbb');
    assert.equal(encapsulated(1, [], text('aaaa', 'bbbb'))(0), 'aaaabbbb');
  });
  it('without a table, by the codestreams that begin', () => {
    const frame = encapsulated(2, [], text('\xff\xd8aa', 'bbbb', '\xff\xd8cc'));
    assert.equal(frame(0), '\xff\xd8aabbbb');
    assert.equal(frame(1), '\xff\xd8cc');
  });
  it('by tables that lie: what can be told otherwise, else unclear', () => {
    assert.equal(encapsulated(2, [0, 7], text('aaaa', 'bbbb'))(1), 'bbbb');
    assert.equal(encapsulated(2, [0, 0], text('aaaa', 'bbbb'))(1), 'bbbb');
    assert.throws(() => encapsulated(2, [0, 7], text('aaaa', 'bbbb', 'cccc')), { reason: 'unclear-frames' });
    assert.throws(() => encapsulated(3, [], text('aaaa', 'bbbb')), { reason: 'unclear-frames' });
    assert.throws(() => encapsulated(1, [], []), { reason: 'no-frames' });
  });
  it('of a video there are none apart', () => {
    assert.throws(() => encapsulated(25, [], text('aaaa'), [], '1.2.840.10008.1.2.4.102'), {
      reason: 'unclear-frames',
    });
    assert.equal(encapsulated(1, [], text('aaaa', 'bb'), [], '1.2.840.10008.1.2.4.102')(0), 'aaaabb');
  });
});

it('the real files: frames fill the pixel data', { skip: openFiles().length === 0 }, () => {
  let files = 0;
  for (const file of openFiles()) {
    if (/truncated|no_meta\.dcm|badVR|MR_small_padded/.test(file.path)) continue;
    const { bytes, transferSyntaxUid } = file.dataSet();
    const head = skim(bytes, transferSyntaxUid);
    if (!head.pixel?.length) continue;
    const frames = framePlaces(head);
    let covered = 0;
    for (let index = 0; index < frames.count; index++) {
      const place = frames.place(index);
      const length = place.ranges.reduce((sum, range) => sum + range.length, 0);
      covered += place.bits === undefined ? length : place.bits / 8;
      for (const range of place.ranges) {
        assert.ok(
          range.offset >= head.pixel.offset && range.offset + range.length <= head.pixel.offset + head.pixel.length,
          file.path,
        );
      }
    }
    const payload = head.pixel.encapsulated
      ? head.pixel.fragments.reduce((sum, length) => sum + length, 0)
      : head.pixel.length;
    assert.ok(
      covered <= payload && payload - covered < (head.pixel.encapsulated ? frames.count + 1 : 2),
      `${file.path}: ${covered} of ${payload}`,
    );
    files++;
  }
  assert.ok(files > 240, `only ${files}`);
});
