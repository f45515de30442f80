import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareInstances, viewInstance } from './instance.ts';
import { idKey, orderOf } from './order.ts';
import type { EntryControl, EntryRecord, VersionPolicy } from './types.ts';

const LANE = '01AAAAAAAAAAAAAAAAAAAAAAAA';
const order = (ms: number): string => orderOf(ms.toString(16).padStart(16, '0'), { lane: LANE, sequence: 1, n: 0 });

function entry(
  sequence: number,
  bytes: string,
  more: { syntax?: string; control?: EntryControl; number?: string } = {},
): EntryRecord {
  const record: EntryRecord = {
    id: { lane: LANE, sequence, n: 0 },
    stamp: sequence.toString(16).padStart(16, '0'),
    sopInstanceUid: '1.2.3',
    sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
    transferSyntaxUid: more.syntax ?? 'native',
    version: Buffer.from(bytes.padEnd(32)),
    digest: Buffer.from(`${sequence}`.padEnd(32)),
    place: { object: `log/${sequence}`, offset: 0, length: 10, encoding: 0 },
    dataSetOffset: sequence,
    instanceNumber: more.number ?? '1',
    numberOfFrames: 0,
    rows: 0,
    columns: 0,
    bitsAllocated: 0,
    variant: 0,
  };
  if (more.control) record.control = more.control;
  return record;
}
const keys = (records: readonly (EntryRecord | undefined)[]) =>
  records.map((one) => one && Number(idKey(one.id).split('/')[1]));
const view = (entries: EntryRecord[], policy: VersionPolicy = 'keep-first') => viewInstance(entries, policy);
const trashed = (ms: number): EntryControl => ({ trash: { order: order(ms), on: true } });

test('equal bytes are one version, whichever copy holds them', () => {
  const one = view([entry(2, 'a'), entry(1, 'a'), entry(3, 'a')]);
  assert.deepEqual([keys([one.shown]), keys(one.kept), keys(one.spare), one.conflict], [[1], [1], [2, 3], false]);
});

test('a copy in a pack holds the bytes, with its own digest and offset', () => {
  const place = { object: 'pack/1', offset: 5, length: 10, encoding: 0 };
  const one = view([entry(1, 'a'), entry(2, 'a', { control: { moved: { order: order(9), place } } })]);
  assert.deepEqual(keys([one.shown]), [1]);
  assert.deepEqual([one.shown!.place, one.shown!.digest, one.shown!.dataSetOffset], [place, entry(2, 'a').digest, 2]);
  assert.deepEqual([keys(one.kept), keys(one.spare)], [[2], [1]]);
});

test('a live copy whose bytes were dropped shows the bytes of its twin, even from the trash, even purged', () => {
  for (const control of [trashed(9), { ...trashed(9), purged: true as const }]) {
    const one = view([entry(1, 'a', { control }), entry(2, 'a', { control: { dropped: true } })]);
    assert.deepEqual([keys([one.shown]), one.shown!.place.object, keys(one.purged)], [[2], 'log/1', []]);
    assert.deepEqual(keys(one.kept), [1]);
  }
});

test('what shows, by policy', () => {
  const versions = () => [entry(1, 'a'), entry(2, 'b'), entry(3, 'a')];
  assert.deepEqual(keys([view(versions()).shown, view(versions(), 'quarantine').shown]), [1, 1]);
  // a came again after b.
  assert.deepEqual(keys([view(versions(), 'newest-wins').shown]), [1]);
  assert.deepEqual(keys([view(versions().slice(0, 2), 'newest-wins').shown]), [2]);
  assert.deepEqual([keys(view(versions()).hidden), view(versions()).conflict], [[2], true]);
});

test('another transfer syntax is a rendition; two versions in it are a conflict', () => {
  const one = view([entry(1, 'a'), entry(2, 'b', { syntax: 'jpeg' })]);
  assert.deepEqual([keys(one.renditions), one.conflict, keys(one.kept)], [[2], false, [1, 2]]);
  const two = view([entry(1, 'a'), entry(2, 'b', { syntax: 'jpeg' }), entry(3, 'c', { syntax: 'jpeg' })]);
  assert.deepEqual([keys(two.renditions), keys(two.hidden), two.conflict], [[2], [3], true]);
});

test('in the trash, back, and sent again', () => {
  const gone = view([entry(1, 'a', { control: trashed(5) })]);
  assert.deepEqual([gone.shown, keys(gone.trashed), keys(gone.kept)], [undefined, [1], [1]]);
  const back = view([entry(1, 'a', { control: { trash: { order: order(6), on: false } } })]);
  assert.deepEqual([keys([back.shown]), back.trashed], [[1], []]);
  const again = view([entry(1, 'a', { control: trashed(5) }), entry(7, 'a')]);
  assert.deepEqual([keys([again.shown]), again.trashed], [[7], []]);
  const other = view([entry(1, 'a', { control: trashed(5) }), entry(7, 'b')]);
  assert.deepEqual([keys([other.shown]), keys(other.trashed), other.conflict], [[7], [1], false]);
});

test('purged is not in the trash, and its bytes may go once', () => {
  const control: EntryControl = { ...trashed(5), purged: true };
  const one = view([entry(1, 'a', { control })]);
  assert.deepEqual([one.shown, one.trashed, one.kept, keys(one.purged)], [undefined, [], [], [1]]);
  assert.deepEqual(view([entry(1, 'a', { control: { ...control, dropped: true } })]).purged, []);
});

test('a person decides: show goes before the policy, hide never shows, and a later version asks again', () => {
  const shown = view([entry(1, 'a'), entry(2, 'b', { control: { decision: { order: order(5), verdict: 'show' } } })]);
  assert.deepEqual([keys([shown.shown]), shown.conflict], [[2], false]);
  const hidden = view([entry(1, 'a', { control: { decision: { order: order(5), verdict: 'hide' } } }), entry(2, 'b')]);
  assert.deepEqual([keys([hidden.shown]), keys(hidden.hidden), hidden.conflict], [[2], [1], false]);
  const later = view([entry(1, 'a', { control: { decision: { order: order(5), verdict: 'show' } } }), entry(9, 'b')]);
  assert.equal(later.conflict, true);
  const none = view([entry(1, 'a', { control: { decision: { order: order(5), verdict: 'hide' } } })]);
  assert.deepEqual([none.shown, keys(none.kept)], [undefined, [1]]);
});

test('instances are laid out by number, not by text; those without one come last', () => {
  const numbers = ['10', '2', '', '-1', 'x', '1.5'];
  const sorted = numbers
    .map((number, n) => ({ ...entry(1, 'a', { number }), sopInstanceUid: `1.${n}` }))
    .sort(compareInstances);
  assert.deepEqual(
    sorted.map((one) => one.instanceNumber),
    ['-1', '1.5', '2', '10', '', 'x'],
  );
});
