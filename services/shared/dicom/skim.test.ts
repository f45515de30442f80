import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deflateRawSync, deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { DataSet } from './dataset.ts';
import { DicomError, type DicomReason } from './errors.ts';
import { rebuilt } from './skim.fuzz.ts';
import { decodeHead, encodeHead, type Head, Skimmer, type SkimOptions, skim } from './skim.ts';
import {
  BIG_ENDIAN,
  DEFLATED,
  EXPLICIT,
  EXPLICIT_BE,
  EXPLICIT_LE,
  element,
  encapsulated,
  fragments,
  IMPLICIT,
  IMPLICIT_LE,
  identity,
  item,
  JPEG,
  native,
  openFiles,
  openItem,
  openSequence,
  PIXEL,
  sequence,
  sequenceEnd,
} from './test-kit.ts';

function inChunks(dataSet: Buffer, transferSyntaxUid: string, sizes: Iterable<number>): Head {
  const skimmer = new Skimmer({ transferSyntaxUid });
  const iterator = sizes[Symbol.iterator]();
  for (let at = 0; at < dataSet.length; ) {
    const size = Math.max(1, iterator.next().value ?? 1);
    const chunk = Buffer.from(dataSet.subarray(at, at + size));
    skimmer.write(chunk);
    chunk.fill(0xee); // a socket's buffer is reused
    at += size;
  }
  return skimmer.end();
}

const refuses = (
  reason: DicomReason,
  dataSet: Buffer,
  transferSyntaxUid = EXPLICIT,
  options: Omit<SkimOptions, 'transferSyntaxUid'> = {},
): void => {
  assert.throws(
    () => skim(dataSet, transferSyntaxUid, options),
    (error) => {
      assert.ok(error instanceof DicomError, String(error));
      assert.equal(error.reason, reason);
      return true;
    },
  );
};

function* ones(): Iterable<number> {
  for (;;) yield 1;
}

describe('what is kept and what is cut', () => {
  it('keeps the header, cuts the pixel data, in each encoding', () => {
    for (const [uid, form] of [
      [EXPLICIT, EXPLICIT_LE],
      [IMPLICIT, IMPLICIT_LE],
      [BIG_ENDIAN, EXPLICIT_BE],
    ] as const) {
      const dataSet = native(form);
      const head = skim(dataSet, uid);
      assert.equal(head.skeleton.length, dataSet.length - PIXEL.length);
      assert.deepEqual(head.cuts, [{ at: head.skeleton.length, offset: head.skeleton.length, length: PIXEL.length }]);
      assert.equal(head.pixel?.offset, head.skeleton.length);
      assert.equal(head.pixel?.encapsulated, false);
      assert.deepEqual([head.explicit, head.bigEndian], [form.explicit, form.bigEndian]);
      assert.deepEqual(rebuilt(head, dataSet), dataSet);
    }
  });
  it('cuts by class of VR: binary beyond 1 KiB, text beyond 64 KiB, pixel data always, offset tables never', () => {
    const dataSet = Buffer.concat([
      element(0x00091001, 'UN', Buffer.alloc(1024)),
      element(0x00091002, 'UN', Buffer.alloc(1026)),
      element(0x0040a160, 'UT', Buffer.alloc(65536, 0x41)),
      element(0x0040a161, 'UT', Buffer.alloc(65538, 0x41)),
      element(0x7fe00001, 'OV', Buffer.alloc(80_000)),
      element(0x7fe00010, 'OB', Buffer.alloc(2)),
    ]);
    const head = skim(dataSet, EXPLICIT);
    assert.deepEqual(
      head.cuts.map((cut) => cut.length),
      [1026, 65538, 2],
    );
    assert.deepEqual(rebuilt(head, dataSet), dataSet);
  });
  it('cuts nested bulk, and says where it lies; nested pixel data is not the instance’s', () => {
    const inner = Buffer.concat([
      element(0x54001010, 'OW', Buffer.alloc(2000, 3)),
      element(0x7fe00010, 'OB', Buffer.alloc(10)),
    ]);
    const dataSet = Buffer.concat([
      identity(),
      openSequence(0x54000100, [openItem(inner), item(inner)]),
      element(0x7fe00010, 'OW', PIXEL),
    ]);
    const head = skim(dataSet, EXPLICIT);
    assert.deepEqual(
      head.cuts.map((cut) => cut.length),
      [2000, 10, 2000, 10, 5000],
    );
    assert.equal(head.pixel?.length, 5000);
    assert.deepEqual(rebuilt(head, dataSet), dataSet);
    const items = new DataSet(head).items(0x54000100);
    assert.equal(items.length, 2);
    const cut = items[1]!.get(0x54001010)!.cut!;
    assert.deepEqual(dataSet.subarray(cut.offset, cut.offset + cut.length), Buffer.alloc(2000, 3));
  });
  it('reads the Basic Offset Table and the fragments', () => {
    const dataSet = encapsulated([0, 108], 100, 50, 60);
    const { pixel, cuts, skeleton } = skim(dataSet, JPEG);
    assert.ok(pixel);
    assert.deepEqual(pixel.basicOffsetTable, [0, 108]);
    assert.deepEqual(pixel.fragments, [100, 50, 60]);
    assert.equal(dataSet.readUInt32LE(pixel.fragmentsOffset + 4), 100);
    assert.deepEqual(cuts, [{ at: skeleton.length, offset: pixel.offset, length: pixel.length }]);
    assert.equal(pixel.offset + pixel.length, dataSet.length);
  });
  it('notes which fragments begin a frame when only that tells', () => {
    const jpeg = (first: number): Buffer => item(Buffer.concat([Buffer.from([first, 0xd8]), Buffer.alloc(8)]));
    const value = Buffer.concat([item(Buffer.alloc(0)), jpeg(0xff), jpeg(1), jpeg(0xff)]);
    const dataSet = Buffer.concat([
      identity(),
      element(0x7fe00010, 'OB', value, EXPLICIT_LE, 0xffffffff),
      sequenceEnd(),
    ]);
    assert.deepEqual(skim(dataSet, JPEG).pixel?.frameStarts, [0, 2]);
    assert.deepEqual(inChunks(dataSet, JPEG, ones()).pixel?.frameStarts, [0, 2]);
  });
});

describe('chunks of any size make the same head', () => {
  const cases: [string, Buffer, string][] = [
    ['native', native(), EXPLICIT],
    ['encapsulated', encapsulated([0, 108], 100, 50, 0, 60), JPEG],
    [
      'nested',
      Buffer.concat([
        identity(),
        openSequence(0x00400275, [openItem(identity()), item(identity())]),
        sequence(0x00081140, [item(identity())]),
      ]),
      EXPLICIT,
    ],
    ['big endian', native(EXPLICIT_BE), BIG_ENDIAN],
    ['implicit', native(IMPLICIT_LE), IMPLICIT],
    ['deflated', deflateRawSync(native()), DEFLATED],
    ['trailing', Buffer.concat([native(), Buffer.alloc(77)]), EXPLICIT],
    ['short', element(0x00080005, 'CS', 'ISO_IR 100'), EXPLICIT],
  ];
  for (const [name, dataSet, uid] of cases) {
    it(name, () => {
      const whole = skim(dataSet, uid);
      assert.deepEqual(inChunks(dataSet, uid, ones()), whole);
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 60 }), (sizes) => {
          assert.deepEqual(inChunks(dataSet, uid, sizes), whole);
        }),
        { numRuns: 50 },
      );
    });
  }
});

describe('what the field sends, and is read', () => {
  const readsUid = (dataSet: Buffer, uid: string): Head => {
    const head = skim(dataSet, uid);
    assert.equal(new DataSet(head).string(0x0020000e), '2.25.3');
    if (!head.deflated) assert.deepEqual(rebuilt(head, dataSet), dataSet);
    return head;
  };
  it('explicit where implicit was declared, and the other way round, and the wrong byte order', () => {
    assert.equal(readsUid(native(EXPLICIT_LE), IMPLICIT).explicit, true);
    assert.equal(readsUid(native(IMPLICIT_LE), EXPLICIT).explicit, false);
    assert.equal(readsUid(native(EXPLICIT_BE), EXPLICIT).bigEndian, true);
    assert.equal(readsUid(native(EXPLICIT_LE), BIG_ENDIAN).bigEndian, false);
    assert.equal(readsUid(native(EXPLICIT_LE), DEFLATED).deflated, false);
  });
  it('a private transfer syntax that nobody knows', () => {
    readsUid(native(), '1.2.3.4.5');
  });
  it('UN of undefined length: implicit inside, even in big endian (PS3.5 §6.2.2)', () => {
    const implicitItem = openItem(element(0x00080005, 'CS', 'ISO_IR 100', IMPLICIT_LE), IMPLICIT_LE);
    for (const [form, uid] of [
      [EXPLICIT_LE, EXPLICIT],
      [EXPLICIT_BE, BIG_ENDIAN],
    ] as const) {
      const dataSet = Buffer.concat([
        element(0x00091010, 'UN', Buffer.concat([implicitItem, sequenceEnd(IMPLICIT_LE)]), form, 0xffffffff),
        identity(form),
      ]);
      const head = readsUid(dataSet, uid);
      assert.equal(new DataSet(head).items(0x00091010)[0]!.string(0x00080005), 'ISO_IR 100');
    }
  });
  it('an explicit item in an implicit data set, and an implicit one in an explicit', () => {
    readsUid(
      Buffer.concat([openSequence(0x00081140, [openItem(identity(EXPLICIT_LE))], IMPLICIT_LE), identity(IMPLICIT_LE)]),
      IMPLICIT,
    );
    readsUid(
      Buffer.concat([openSequence(0x00081140, [openItem(identity(IMPLICIT_LE))], EXPLICIT_LE), identity(EXPLICIT_LE)]),
      EXPLICIT,
    );
  });
  it('group lengths, odd lengths, elements out of order, VRs of tomorrow, VRs that are none', () => {
    readsUid(Buffer.concat([element(0x00080000, 'UL', Buffer.alloc(4)), native()]), EXPLICIT);
    readsUid(Buffer.concat([element(0x00100020, 'LO', 'ABC'), native()]), EXPLICIT);
    readsUid(
      Buffer.concat([
        identity(),
        element(0x00080005, 'CS', ''),
        element(0x00091001, 'ZZ', 'abcd'),
        element(0x00100021, 'LO', 'x ', IMPLICIT_LE),
      ]),
      EXPLICIT,
    );
  });
  it('two bytes that are no VR and no length: the short form, as DCMTK has it', () => {
    for (const vr of ['??', '  ', 'sh', 'S1', '\0\0']) {
      // As a length of implicit VR these bytes would reach beyond the data set's end.
      const strange = (tag: number) =>
        Buffer.concat([element(tag, 'SH', 'A').subarray(0, 4), Buffer.from(vr, 'latin1')]);
      const short = (tag: number) => Buffer.concat([strange(tag), Buffer.from([4, 0]), Buffer.from('ABCD')]);
      const dataSet = Buffer.concat([
        short(0x00081010),
        openSequence(0x00400275, [openItem(short(0x00400009))]),
        short(0x00091010),
        native(),
      ]);
      const read = new DataSet(readsUid(dataSet, EXPLICIT));
      assert.equal(read.string(0x00081010), 'ABCD', vr);
      assert.equal(read.items(0x00400275)[0]!.string(0x00400009), 'ABCD', vr);
    }
    // 64 KiB of pixel data in implicit VR begin with the same two zeros.
    const pixel = element(0x7fe00010, 'OW', Buffer.alloc(2 ** 16), IMPLICIT_LE);
    assert.equal(readsUid(Buffer.concat([identity(), pixel]), EXPLICIT).pixel?.length, 2 ** 16);
  });
  it('a private sequence in the other byte order than the data set', () => {
    for (const form of [EXPLICIT_BE, { explicit: false, bigEndian: true }]) {
      const swapped = element(0x20050010, 'SQ', openItem(element(0x00080100, 'SH', 'CODE', form), form));
      const dataSet = Buffer.concat([identity(), swapped, element(0x7fe00010, 'OW', PIXEL)]);
      const read = new DataSet(readsUid(dataSet, EXPLICIT));
      assert.equal(read.items(0x20050010)[0]!.string(0x00080100), 'CODE');
    }
  });
  it('trailing padding, zeros, garbage and broken-off elements after the pixel data', () => {
    for (const tail of [
      element(0xfffcfffc, 'OB', Buffer.alloc(100)),
      element(0xfffcfffc, 'OB', Buffer.alloc(10), EXPLICIT_LE, 100),
      Buffer.alloc(512),
      Buffer.from([1, 2, 3]),
      Buffer.from('this is no element at all'),
      element(0x7fe10010, 'LO', 'abc', EXPLICIT_LE, 4000),
    ]) {
      const head = readsUid(Buffer.concat([native(), tail]), EXPLICIT);
      assert.deepEqual(head.trailing, { offset: native().length, length: tail.length });
      assert.equal(head.length, native().length + tail.length);
    }
  });
  it('zeros where there is no pixel data; anything else there is refused', () => {
    assert.deepEqual(readsUid(Buffer.concat([identity(), Buffer.alloc(50)]), EXPLICIT).trailing?.length, 50);
    refuses('bad-header', Buffer.concat([identity(), Buffer.alloc(50), native()]));
    refuses('bad-header', Buffer.concat([identity(), element(0x00001000, 'UL', Buffer.alloc(4)), native()]));
  });
  it('delimiters that are missing, superfluous, or at the wrong place', () => {
    const name = element(0x00400009, 'SH', 'SPS1');
    const closed = sequenceEnd();
    const noItemEnd = element(
      0x00400275,
      'SQ',
      Buffer.concat([item(name, EXPLICIT_LE, 0xffffffff), closed]),
      EXPLICIT_LE,
      0xffffffff,
    );
    const nextItem = element(
      0x00400275,
      'SQ',
      Buffer.concat([item(name, EXPLICIT_LE, 0xffffffff), openItem(name), closed]),
      EXPLICIT_LE,
      0xffffffff,
    );
    const extraEnd = Buffer.concat([sequence(0x00400275, [item(name)]), closed]);
    const lyingLength = element(0x00400275, 'SQ', item(name), EXPLICIT_LE, 4000);
    const noSequenceEnd = element(0x00400275, 'SQ', item(name), EXPLICIT_LE, 0xffffffff);
    for (const broken of [noItemEnd, nextItem, extraEnd, lyingLength, noSequenceEnd]) {
      const head = readsUid(Buffer.concat([broken, identity()]), EXPLICIT);
      assert.equal(new DataSet(head).items(0x00400275)[0]!.string(0x00400009), 'SPS1');
    }
  });
  it('pixel data without its sequence delimiter, at the end and before more elements', () => {
    const value = Buffer.concat([item(Buffer.alloc(0)), fragments(10, 20)]);
    const open = Buffer.concat([identity(), element(0x7fe00010, 'OB', value, EXPLICIT_LE, 0xffffffff)]);
    assert.deepEqual(readsUid(open, JPEG).pixel?.fragments, [10, 20]);
    assert.deepEqual(
      readsUid(Buffer.concat([open, element(0x7fe10010, 'LO', 'ACME')]), JPEG).pixel?.fragments,
      [10, 20],
    );
  });
  it('zlib where deflate was declared, and bytes after the stream', () => {
    readsUid(deflateSync(native()), DEFLATED);
    readsUid(Buffer.concat([deflateRawSync(native()), Buffer.alloc(9, 1)]), DEFLATED);
  });
});

describe('what fuzzing found', () => {
  it('bytes too few for a header do not take the complete element before them along', () => {
    const after = element(0x7fe10010, 'LO', 'ACME');
    const head = skim(Buffer.concat([native(), after, Buffer.from([1, 2, 3])]), EXPLICIT);
    assert.deepEqual(head.trailing, { offset: native().length + after.length, length: 3 });
    assert.equal(new DataSet(head).string(0x7fe10010), 'ACME');
  });
  it('short pixel data behind a sequence without its delimiter is still short', () => {
    const open = element(0x7fe10010, 'SQ', item(Buffer.alloc(0)), EXPLICIT_LE, 0xffffffff);
    refuses('truncated', Buffer.concat([element(0x7fe00008, 'OF', ''), open, native().subarray(0, -10)]));
  });
});

describe('what is refused', () => {
  it('a Part 10 file, group 0000, nothing', () => {
    refuses('is-part10', Buffer.concat([Buffer.alloc(128), Buffer.from('DICM'), native()]));
    refuses('is-part10', Buffer.concat([element(0x00020010, 'UI', '1.2.840.10008.1.2.1\0'), native()]));
    refuses('is-part10', Buffer.concat([element(0x00020010, 'UI', '1.2.840.10008.1.2.1\0'), native()]), IMPLICIT);
    const byChance = Buffer.concat([element(0x00080080, 'LO', `${'x'.repeat(120)}DICM`), identity()]);
    assert.equal(byChance.toString('latin1', 128, 132), 'DICM');
    assert.ok(skim(byChance, EXPLICIT));
    refuses('bad-header', Buffer.concat([element(0x00000000, 'UL', Buffer.alloc(4)), native()]), IMPLICIT);
    refuses('truncated', Buffer.alloc(0));
  });
  it('a data set that ends early: within pixel data, a fragment, a sequence, a value', () => {
    refuses('truncated', native().subarray(0, -1));
    refuses('truncated', encapsulated([], 100, 50).subarray(0, -9), JPEG);
    refuses('truncated', Buffer.concat([identity(), openSequence(0x00400275, [openItem(identity())])]).subarray(0, -1));
    refuses('truncated', element(0x00100020, 'LO', 'abc', EXPLICIT_LE, 40));
  });
  it('unless the caller takes short pixel data', () => {
    const head = skim(native().subarray(0, -1000), EXPLICIT, { acceptTruncatedPixelData: true });
    assert.equal(head.pixel?.length, 4000);
    assert.equal(
      skim(encapsulated([], 100, 50).subarray(0, -20), JPEG, { acceptTruncatedPixelData: true }).pixel?.fragments.at(
        -1,
      ),
      38,
    );
    refuses('truncated', element(0x00100020, 'LO', 'abc', EXPLICIT_LE, 40), EXPLICIT, {
      acceptTruncatedPixelData: true,
    });
  });
  it('lengths that reach beyond the item', () => {
    const lie = element(0x00400009, 'SH', 'SPS1', EXPLICIT_LE, 40);
    refuses('length-overrun', Buffer.concat([sequence(0x00400275, [item(lie)]), native()]));
    refuses(
      'length-overrun',
      Buffer.concat([
        sequence(0x00880200, [
          item(element(0x7fe00010, 'OB', item(Buffer.alloc(4), EXPLICIT_LE, 400), EXPLICIT_LE, 0xffffffff)),
        ]),
        native(),
      ]),
    );
  });
  it('sequences nested 100,000 deep, of defined and undefined length', () => {
    const opening = Buffer.concat([
      element(0x00400275, 'SQ', '', EXPLICIT_LE, 0xffffffff),
      item(Buffer.alloc(0), EXPLICIT_LE, 0xffffffff),
    ]);
    const deep = Buffer.alloc(opening.length * 100_000);
    for (let at = 0; at < deep.length; at += opening.length) opening.copy(deep, at);
    refuses('too-deep', deep);
    let defined = identity();
    for (let n = 0; n < 65; n++) defined = sequence(0x00400275, [item(defined)]);
    refuses('too-deep', defined);
    assert.ok(skim(sequence(0x00400275, [item(identity())]), EXPLICIT, { limits: { sequenceDepthMax: 1 } }));
  });
  it('what passes a limit', () => {
    refuses(
      'header-too-large',
      Buffer.concat(Array.from({ length: 200 }, () => element(0x00091001, 'LO', 'x'.repeat(64)))),
      EXPLICIT,
      { limits: { skeletonBytesMax: 10_000 } },
    );
    refuses('header-too-large', element(0x00091001, 'UT', 'x'.repeat(50_000)), EXPLICIT, {
      limits: { skeletonBytesMax: 10_000 },
    });
    refuses('too-many-elements', identity(), EXPLICIT, { limits: { elementsMax: 4 } });
    refuses('too-many-elements', identity(), EXPLICIT, { limits: { topLevelElementsMax: 4 } });
    assert.ok(skim(sequence(0x00081140, [item(identity())]), EXPLICIT, { limits: { topLevelElementsMax: 1 } }));
    refuses('too-many-fragments', encapsulated([], 1, 2, 3), JPEG, { limits: { fragmentsMax: 2 } });
    refuses(
      'header-too-large',
      Buffer.concat([
        identity(),
        element(0x7fe00010, 'OB', item(Buffer.alloc(0), EXPLICIT_LE, 0x7ffffff0), EXPLICIT_LE, 0xffffffff),
      ]),
      JPEG,
    );
  });
  it('a deflate bomb, at its limit and in bounded memory', () => {
    const bomb = deflateRawSync(Buffer.concat([identity(), element(0x7fe00010, 'OW', Buffer.alloc(64 * 2 ** 20))]));
    assert.ok(bomb.length < 100_000);
    refuses('inflates-too-far', bomb, DEFLATED, { limits: { inflatedBytesMax: 2 ** 20 } });
    const before = process.memoryUsage().arrayBuffers;
    assert.equal(skim(bomb, DEFLATED).pixel?.length, 64 * 2 ** 20);
    assert.ok(process.memoryUsage().arrayBuffers - before < 8 * 2 ** 20);
  });
  it('deflate that is broken or ends early', () => {
    refuses('deflate', deflateRawSync(native()).subarray(0, -2), DEFLATED);
    refuses('deflate', Buffer.from([0xff, 0xff, 0xff, 0xff]), DEFLATED);
  });
  it('and no message carries a value', () => {
    for (const dataSet of [
      native().subarray(0, -1),
      Buffer.concat([identity(), element(0x00100020, 'LO', 'SECRET', EXPLICIT_LE, 100)]),
    ]) {
      assert.throws(
        () => skim(dataSet, EXPLICIT),
        (error: Error) => !/SECRET|A\^B/.test(error.message),
      );
    }
  });
});

describe('the real files', () => {
  const files = openFiles();
  /** Each with its reason: also Orthanc 1.10.1 and DCMTK refuse these three. */
  const REFUSED: Record<string, DicomReason> = {
    'pydicom__pydicom/src/pydicom/data/test_files/MR_truncated.dcm': 'truncated', // 62 bytes of pixel data are missing
    'pydicom__pydicom/src/pydicom/data/test_files/rtplan_truncated.dcm': 'truncated', // ends within a sequence
    'pydicom__pydicom/src/pydicom/data/test_files/no_meta.dcm': 'not-dicom', // begins with a stray byte
  };
  it(`all are read, but for those in the table (${files.length} files)`, { skip: files.length === 0 }, () => {
    for (const file of files) {
      try {
        const { bytes, transferSyntaxUid } = file.dataSet();
        const head = skim(bytes, transferSyntaxUid);
        if (!head.deflated) assert.ok(rebuilt(head, bytes).equals(bytes), file.path);
        assert.deepEqual(
          inChunks(bytes, transferSyntaxUid, bytes.length < 20_000 ? ones() : [7, 100, 64 * 1024, 3, bytes.length]),
          head,
          file.path,
        );
        assert.deepEqual(decodeHead(encodeHead(head)), head, file.path);
        new DataSet(head);
        assert.ok(!(file.path in REFUSED), `${file.path} is read: take it off the table`);
      } catch (error) {
        assert.ok(error instanceof DicomError, `${file.path}: ${String(error)}`);
        assert.equal(error.reason, REFUSED[file.path], `${file.path}: ${error.message}`);
      }
    }
  });
});
