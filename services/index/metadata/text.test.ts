import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseBulkPath } from '#dicom/bulk-path.ts';
import { dataSetOf } from '../fold/describe.ts';
import type { JsonAttributes } from '../fold/types.ts';
import { makeInstance } from '../instances.testing.ts';
import { correctedText, instanceText, withRoot } from './text.ts';

const AT = { studyInstanceUid: '1.2', seriesInstanceUid: 'a/b?c', sopInstanceUid: '1.2.1' };
const PRETENDER = '"BulkDataURI":"\u{10ffff}';

function textOf(more: JsonAttributes = {}): Buffer {
  const { instance } = makeInstance({ study: '1.2', series: '1.2.1', sop: '1.2.1', more });
  return instanceText(dataSetOf(instance.head, ''), AT);
}
const rooted = (text: Buffer, root: string): JsonAttributes =>
  JSON.parse(
    Buffer.concat(withRoot(text, Buffer.from(JSON.stringify(root).slice(1, -1)))).toString(),
  ) as JsonAttributes;

test('the root goes where bulk is, in items too, and UIDs are parts of a URL', () => {
  const bulk = (length: number) => ({ vr: 'OW', InlineBinary: Buffer.alloc(length, 7).toString('base64') });
  const model = rooted(textOf({ '54000100': { vr: 'SQ', Value: [{}, { '54001010': bulk(70_000) }] } }), 'http://a/"q');
  const items = model['54000100']!.Value as JsonAttributes[];
  const uri = items[1]!['54001010']!.BulkDataURI!;
  const base = 'http://a/"q/studies/1.2/series/a%2Fb%3Fc/instances/1.2.1/bulkdata/';
  assert.equal(uri, `${base}54000100/2/54001010`);
  assert.deepEqual(parseBulkPath(uri.slice(base.length)), { steps: [{ tag: 0x54000100, item: 2 }], tag: 0x54001010 });
  assert.equal(model['7FE00010']!.BulkDataURI, `${base}7FE00010`);
});

test('a value that looks like a mark stays a value', () => {
  for (const value of [PRETENDER, '\u0001', `x${PRETENDER}/etc`]) {
    const more = { '00104000': { vr: 'LT', Value: [value] } };
    const text = textOf(more);
    assert.equal(withRoot(text, Buffer.from('R')).length, 3, 'one mark: the pixels');
    assert.deepEqual(rooted(text, 'R')['00104000']!.Value, [value]);
    const over = [
      {
        order: '1',
        seriesInstanceUid: '',
        sopInstanceUid: '',
        attributes: { '00100020': { vr: 'LO', Value: [value] } },
      },
    ];
    const corrected = rooted(correctedText(text, over, new Map()), 'R');
    assert.deepEqual([corrected['00104000']!.Value, corrected['00100020']!.Value], [[value], [value]]);
    assert.equal(corrected['7FE00010']!.BulkDataURI!.startsWith('R/studies/1.2/'), true);
    assert.deepEqual(Object.keys(corrected), Object.keys(corrected).sort());
  }
});
